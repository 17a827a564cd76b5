package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// yzmaDir holds the shared libraries and the program that uses them.
const yzmaDir = "bin/peers/yzma"

// yzma is one stream through the engine and through yzma, a Go binding that loads
// shared libraries at run time; both sample greedily and make text of each token.
func (b *bench) yzma(ctx context.Context, row string) (err error) {
	if err := buildYzma(ctx); err != nil {
		return err
	}
	e, err := b.open(ctx, clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	bos := e.Model().Vocab().BOS()
	us := side{name: oursName, run: func(ctx context.Context) (metrics, error) {
		g, err := generate(ctx, e, []llama.Token{bos}, decodeTokens, &llama.SamplerParams{})
		if err != nil {
			return nil, err
		}
		return metrics{sampledGreedy: g.speed()}, nil
	}}
	argv := []string{yzmaDir + "/yzma-bench", yzmaDir, b.model, strconv.Itoa(b.threads), strconv.Itoa(decodeTokens)}
	them := side{"yzma v1.24.0", argv, func(ctx context.Context) (metrics, error) {
		x, err := runBench(ctx, argv)
		return metrics{sampledGreedy: x}, err
	}}
	if _, err := us.run(ctx); err != nil { // warm-up
		return err
	}
	return b.compare(ctx, row, us, them)
}

// buildYzma links the very objects that we link into the shared libraries that yzma
// wants, which are one file under several names, and builds the program.
func buildYzma(ctx context.Context) error {
	if err := os.MkdirAll(yzmaDir, 0o755); err != nil {
		return err
	}
	const objects = "third_party/llama.cpp/build/lib/"
	library := filepath.Join(yzmaDir, "libllama.so")
	for _, argv := range [][]string{
		{
			"c++", "-shared", "-o", library, "-Wl,--whole-archive", objects + "libllama.a", objects + "libggml.a", objects + "libggml-cpu.a", objects + "libggml-base.a",
			"-Wl,--no-whole-archive", "-lgomp", "-lpthread", "-ldl", "-lm",
		},
		{"go", "build", "-C", "internal/bench/yzma", "-o", "../../../" + yzmaDir + "/yzma-bench", "."},
	} {
		if _, err := output(ctx, argv); err != nil {
			return err
		}
	}
	for _, name := range []string{"ggml", "ggml-base"} {
		if err := os.Symlink("libllama.so", filepath.Join(yzmaDir, fmt.Sprintf("lib%s.so", name))); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
