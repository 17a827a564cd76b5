// Package server is the HTTP edge of lm-sandbox: it turns JSON into the types of
// [llama/engine] and [sandbox] and back, and holds no other logic.
//
// # Endpoints
//
//	POST /v1/chat/completions  OpenAI's, streaming or not, with llama-server's extra fields
//	GET  /v1/models            the one model that is loaded
//	GET  /health               {"status":"ok"}; needs no key
//	POST /run-bash/            {"cmd"} -> {"output","error","exit_code","limit","level"}
//	POST /llama-cpp/           {"cmd"} -> {"output","error"}
//	POST /ollama/              {"cmd"} -> the JSON of an OpenAI-compatible upstream
//
// One slash at the end of a path may be there or not. Every failure, of every
// endpoint, is {"error":{"message","type","code"}} with the fitting status.
//
// # Who may call
//
// A process that can open a connection, but no web page: the Host must be one of
// ours (which defeats DNS rebinding), an Origin must be our own, a body must say
// application/json, and no CORS header is ever sent. Beyond loopback a key is
// required; see [ErrKeyRequired]. What commands may do is set by the operator in
// [Options.Sandbox], never by a request.
//
// A client that goes away cancels its generation or its command.
package server
