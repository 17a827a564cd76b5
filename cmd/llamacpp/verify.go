package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// verify checks again all that install relies on: the sources, the library's
// files, its symbol, and the clone's link.
func (a *app) verify(ctx context.Context) error {
	p, err := a.plan(ctx)
	if err != nil {
		return err
	}
	lib, err := a.openLibrary(p.key)
	if errors.Is(err, errNotBuilt) {
		return err
	}
	if err != nil {
		return fmt.Errorf("the library is damaged, llamacpp install builds it again: %w", err)
	}
	a.say("library: %s: %d files as built", lib.dir, len(lib.Files))
	if err := a.verifyStamp(ctx, lib); err != nil {
		return err
	}
	a.say("symbol: lm_native_%s: %s", lib.Key, stampText(lib.manifest))
	if exists(a.sourceDir()) {
		if err := a.checkTree(a.sourceDir(), "the cache"); err != nil {
			return err
		}
		a.say("sources: %s: tree %s", a.sourceDir(), a.tree)
	} else {
		a.say("sources: not in the cache; the library does not need them")
	}
	return a.verifyLink(lib)
}

// verifyStamp links a small C program with the stamp and reads it back.
func (a *app) verifyStamp(ctx context.Context, lib *library) error {
	tmp, err := os.MkdirTemp("", "llamacpp-verify-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	const program = `#include <stdio.h>
#include "lm_native.h"
int main(void) {
    const uint32_t want[] = { LM_NATIVE_SIZES };
    const struct lm_native * s = &LM_NATIVE_STAMP;
    if (s->model_params != want[0] || s->context_params != want[1] || s->batch != want[2] ||
        s->token_data != want[3] || s->sampler_chain_params != want[4]) return 2;
    return puts(s->text) < 0;
}
`
	src, exe := filepath.Join(tmp, "stamp.c"), filepath.Join(tmp, "stamp")
	if err := os.WriteFile(src, []byte(program), 0o644); err != nil {
		return err
	}
	args := append(slices.Clone(a.cc), lib.flags().cpp...)
	args = append(args, src, filepath.Join(lib.dir, "lib", stampLibrary), "-o", exe)
	if err := (child{args: args}).run(ctx); err != nil {
		return fmt.Errorf("the library's symbol does not link: %w", err)
	}
	got, err := child{args: []string{exe}}.output(ctx)
	if err != nil {
		return fmt.Errorf("the library was built with other headers: %w", err)
	}
	if want := stampText(lib.manifest); got != want {
		return fmt.Errorf("the library's symbol says %q, the manifest %q", got, want)
	}
	return nil
}

func (a *app) verifyLink(lib *library) error {
	root, err := cloneRoot()
	if err != nil || root == "" {
		return err
	}
	const again = "llamacpp install writes it anew"
	path := filepath.Join(root, linkFile)
	got, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w; %s", err, again)
	}
	if !bytes.Equal(got, lib.goFile()) {
		return fmt.Errorf("%s links another library than key %s; %s", path, lib.Key, again)
	}
	for _, l := range a.symlinks(root, lib) {
		if to, err := os.Readlink(l.at); err != nil || to != l.to {
			return fmt.Errorf("%s does not lead to %s; %s", l.at, l.to, again)
		}
	}
	a.say("link: %s is current", path)
	return nil
}
