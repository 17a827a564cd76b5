// Command llamacpp builds the pinned llama.cpp and links it into a Go build.
//
// Everything it makes lives in a cache, under a key of the tree, the CMake
// options, the compiler and the recipe, and is built once per key and machine:
//
//	llamacpp install    fetch and build where needed, then link
//	llamacpp fetch      the verified sources only
//	llamacpp build      fetch and compile, without linking
//	llamacpp env        print the shell lines that link the built library
//	llamacpp verify     hash sources and libraries again, check the link
//	llamacpp peers DIR  llama.cpp's own programs of the same build, into DIR
//
// In a clone of lm-sandbox, install writes a git-ignored Go file with the cgo
// flags; plain `go build ./...` works from then on. In any other module it
// prints the `export CGO_…` lines that do the same for that module's builds.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: llamacpp COMMAND

  install    fetch and build the pinned llama.cpp where needed, then link it:
             into this clone, or by the lines printed for another module
  fetch      fetch and verify the sources
  build      fetch and compile, without linking
  env        print the shell lines that link the built library
  verify     hash sources and libraries again, check the link
  peers DIR  build llama.cpp's own programs of the same tree into DIR
  cuda-smoke configure for CUDA and compile two kernels

environment:
  LLAMA_CPP_SRC   take the sources from this directory
  LLAMA_NATIVE    1 = compile for this processor only
  CUDA            auto (default), 1 = insist, 0 = never, wheels = CUDA from PyPI by pip
  CUDA_VERSION    the CUDA release, for example 12.9 (default: the one found; wheels: 13.0)
  CUDA_ARCHS      GPU architectures, for example "90;120" (default: the GPUs found)
  CC, CXX         the compilers (default: those of go env)
  CMAKE_BUILD_PARALLEL_LEVEL  how many compilers run at once (default: the processors)
  XDG_CACHE_HOME  the cache is $XDG_CACHE_HOME/lm-sandbox (default ~/.cache/lm-sandbox)
`

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, thePin, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, p pin, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, p, args, stdout, stderr)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprint(stderr, usage)
		return exitUsage
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "llamacpp: interrupted; run it again to go on from here")
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "llamacpp: %v\n", err)
		if text := remedy(err); text != "" {
			fmt.Fprintf(stderr, "llamacpp: %s\n", text)
		}
		return exitFailed
	}
}

func dispatch(ctx context.Context, p pin, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help") {
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	want := 1
	if len(args) > 0 && args[0] == "peers" {
		want = 2
	}
	if len(args) != want {
		return errUsage
	}
	a, err := newApp(ctx, p, stdout, stderr)
	if err != nil {
		return err
	}
	a.offline = args[0] == "env" || args[0] == "verify"
	switch args[0] {
	case "fetch":
		return a.fetch(ctx)
	case "build":
		_, err := a.build(ctx)
		return err
	case "install":
		return a.install(ctx)
	case "env":
		return a.env(ctx)
	case "verify":
		return a.verify(ctx)
	case "peers":
		return a.peers(ctx, args[1])
	case "cuda-smoke":
		return a.cudaSmoke(ctx)
	}
	return errUsage
}
