// Package llama runs language models inside the Go process, by llama.cpp.
//
// It is llama.cpp's API in Go: the same nouns, one file each, with Go's errors, lifetimes and types. Package
// [github.com/lm-sandbox/lm-sandbox/llama/engine] builds on it what most programs want: many callers at once, streams of text,
// chat and tools. Use this package for what the engine does not do.
//
// # From a file to text
//
//	m, err := llama.LoadModel(ctx, path, llama.ModelParams{})
//	defer m.Close()
//	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 4096})
//	defer c.Close()
//	s, err := llama.NewSampler(m, llama.DefaultSamplerParams())
//	defer s.Close()
//
//	tokens, err := m.Vocab().Tokenize("The capital of France is", true, false)
//	b := llama.NewBatch(c.NBatch())
//	for i, t := range tokens {
//		b.Add(t, llama.Pos(i), 0, i == len(tokens)-1) // logits of the last token only
//	}
//	rows := []llama.SampleRow{{Index: len(tokens) - 1, Sampler: s}}
//	for pos := llama.Pos(len(tokens)); ; pos++ {
//		err = c.DecodeSample(b, rows) // one call into C: decode, sample, accept
//		if m.Vocab().IsEOG(rows[0].Token) {
//			break
//		}
//		b.Clear()
//		rows[0].Index, err = b.Add(rows[0].Token, pos, 0, true)
//	}
//
// The package's example is the whole program, with its errors handled.
//
// A prompt longer than [Context.NBatch] is decoded in parts. Several sequences share one Decode: give each its own [SeqID] below
// [ContextParams.NSeqMax] and one [SampleRow]; that costs far less than one Decode each.
//
// # Chat
//
// [NewChatTemplate] compiles the jinja template that the model brings along, [ChatTemplate.Apply] renders a conversation with
// tools or a JSON schema, [ChatPrompt.Sampler] makes the sampler with the grammar that the answer must have, and
// [ChatPrompt.NewParser] reads the answer. What users, tools and documents say never becomes a control token, even where it
// spells one: that is why a [ChatPrompt] has Tokens, and why they differ from tokenising its Text.
//
// # Lifetimes
//
// Whatever New, Load or Clone made must be closed; Close is idempotent, and a nil object is closed. A [Context] must be closed
// before its [Model], whose Close says [ErrInUse] otherwise. Samplers and chat templates may be closed before or after. Using a
// closed object is [ErrClosed], never a crash. A [Vocab], a [Memory] and a [ChatPrompt] need no Close.
//
// # Goroutines
//
// [Model], [Vocab] and [ChatTemplate] are safe for use by many goroutines. A [Context], its [Memory], a [Sampler], a [Batch], a
// [ChatParser] and a [TextDecoder] belong to one goroutine at a time; only [Context.Abort], [Context.Hold],
// [Context.ResetAbort], [Context.InterruptTurn], [Context.Times] and [Sampler.Working] may be called by any. Two
// goroutines that share a Context wait for each other; a Sampler in use by another goroutine is [ErrInUse].
//
// # Errors
//
// Errors are sentinels for [errors.Is] and types for [errors.As]. llama.cpp ends the process for many kinds of wrong input; this
// package checks them first and returns an error. It cannot do so for everything that a hostile model file may contain: run
// models that you do not trust in a process of their own. Grammars, JSON schemas, messages and tools may come from strangers:
// they are held to limits before llama.cpp sees them.
//
// llama.cpp logs to [SetLogger], by default nowhere. A failed check inside llama.cpp still aborts; its message goes to stderr.
//
// # Building
//
// The package links llama.cpp by cgo. In a clone, make native builds it; elsewhere,
// go run github.com/lm-sandbox/lm-sandbox/cmd/llamacpp install builds it and prints the environment to set. With CGO_ENABLED=0
// the package compiles and says [ErrUnsupported].
package llama
