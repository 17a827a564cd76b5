package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// plan is one library that can be built: the variant, its options and its key.
type plan struct {
	choice
	host     host
	options  []string
	compiler string
	cudaDir  string // the CUDA toolkit's libraries
	work     string // key of what CMake builds: the build directory and the peers
	key      string // key of the library
}

// plan decides what to build on this machine with these settings, and says it.
func (a *app) plan(ctx context.Context) (plan, error) {
	if err := a.needCompilers(); err != nil {
		return plan{}, err
	}
	p := plan{host: probeHost(ctx)}
	var err error
	if p.host.toolkit, err = a.findToolkit(ctx); err != nil {
		return p, err
	}
	if p.choice, err = a.choose(p.host); err != nil {
		return p, err
	}
	for _, r := range p.reasons {
		a.say("%s", r)
	}
	p.options = llamacpp.Options(p.Variant)
	if p.compiler, err = a.compilerIdentity(ctx); err != nil {
		return p, err
	}
	if p.CUDA {
		if p.cudaDir, err = p.host.toolkit.libDir(p.GOARCH); err != nil {
			return p, err
		}
		p.compiler += "; " + p.host.toolkit.nvcc + " " + p.host.toolkit.identity
	}
	p.work, p.key = cacheKey(a.tree, p, nil), cacheKey(a.tree, p, a.edits)
	return p, nil
}

// cacheKey names all that the output depends on. It is part of every path, of a
// -D flag and of a symbol, because Go's build cache notices none of: a changed
// library, a changed header.
func cacheKey(tree string, p plan, edits []llamacpp.Edit) string {
	var b strings.Builder
	fmt.Fprintf(&b, "recipe %d\ntree %s\ntarget %s/%s\ncompiler %s\n", llamacpp.Recipe, tree, p.GOOS, p.GOARCH, p.compiler)
	for _, o := range p.options {
		fmt.Fprintln(&b, o)
	}
	if p.Native {
		// -march=native means another thing on another processor.
		fmt.Fprintf(&b, "cpu %s %s\n", p.host.cpu.model, strings.Join(p.host.cpu.flags, " "))
	}
	for _, e := range edits {
		fmt.Fprintf(&b, "edit %q\n", e)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}
