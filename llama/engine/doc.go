// Package engine runs a language model for many goroutines at once.
//
// An [Engine] owns one llama.cpp context. Requests of any number of goroutines
// share its steps (continuous batching): they compute the next token of every
// request that generates, and pieces of the prompts of those that begin, in one
// step or, where that is faster as on most CPUs, in steps by turns (Params.Pace).
//
//	e, err := engine.Open(ctx, "model.gguf", engine.Params{})
//	if err != nil {
//		return err
//	}
//	defer e.Close()
//	for d, err := range e.Chat(ctx, engine.ChatRequest{Messages: messages}) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(d.Content)
//	}
//
// # Requests
//
// [Engine.Chat] asks for the next message of a conversation, by the model's
// chat template, with tools, reasoning and structured answers.
// [Engine.Generate] continues bare text. [GenerateInto] asks for a value of a
// Go type. Each of them blocks only its caller.
//
// At most Params.MaxSequences requests run, Params.MaxQueue more wait: those of a
// higher Request.Priority come first, then callers take turns (Request.Caller),
// and of each who came first. The next one gets [ErrBusy]. Nothing is ever truncated: a
// prompt that does not fit is an error before anything is computed, an output
// that fills the context ends with the finish reason "context".
//
// # Memory
//
// The running requests share the cells of one KV cache, Params.NCtx in all. A
// request starts when the cells of its prompt, and some more, can be reserved.
// Where the cache runs full, the request that came last gives its cells back,
// waits, and is computed again; its consumer sees a pause. So no request fails
// because of its neighbours.
//
// # Cancelling and closing
//
// A request ends when its context is done or its loop is left, at the end of
// the step in flight, however busy its consumer is. [Engine.Close] ends all of
// them with [ErrClosed].
//
// # Repeatability
//
// A request with the seed of an earlier one gives the same output, as long as
// the steps have the same shape: neighbours change the last bits of the logits,
// and where two tokens are nearly as likely, that can change the choice. With ContextShift they
// change more: what had to give up its place is computed again from the tokens that are left.
package engine
