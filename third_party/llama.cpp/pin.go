// Package llamacpp is the pin of llama.cpp and the recipe that builds it: which
// tree, where it comes from, which CMake options, which libraries in which
// order. cmd/llamacpp carries it out; llama/internal/native checks at start that
// the library it was linked with is this one.
//
// README.md beside this file is the checklist for moving the pin.
package llamacpp

// The pin: one release, and the places that its sources come from.
const (
	// Version is the release that is pinned, as llama_version() reports it.
	Version = "0.5.0"
	// Tree is the git tree hash of that release's sources. Whatever source they
	// come from, their files must hash to it.
	Tree = "fd570ef54b10ec5fecb739e7e04c8ce44a6f415a"

	// Repository and Tag name the release for git.
	Repository = "https://github.com/ggml-org/llama.cpp"
	Tag        = "v0.5.0"

	// NPMPackage carries the same tree as a git bundle, NPMBundle inside its
	// archive: a tenth of the bytes of a clone, from a registry that is often
	// reachable where GitHub is not.
	NPMPackage = "node-llama-cpp@3.22.1"
	NPMBundle  = "package/llama/gitRelease.bundle"
)
