package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// stampLibrary holds one symbol, lm_native_<key>: a program whose Go side was
// compiled for another library does not link.
const stampLibrary = "liblm_native.a"

// stampHeader declares the stamp. The sizes are those of the build that made the
// libraries: a program that another llama.h found its way into sees other ones.
const stampHeader = `// Which build of llama.cpp this is; compare with what the includer was compiled for.
#pragma once

#include <stdint.h>

#include "llama.h"

struct lm_native {
    char     text[128]; // "VERSION TREE KEY"
    uint32_t model_params;
    uint32_t context_params;
    uint32_t batch;
    uint32_t token_data;
    uint32_t sampler_chain_params;
};

#define LM_NATIVE_SIZES                                            \
    sizeof(struct llama_model_params),                             \
    sizeof(struct llama_context_params),                           \
    sizeof(struct llama_batch),                                    \
    sizeof(struct llama_token_data),                               \
    sizeof(struct llama_sampler_chain_params)

#define LM_NATIVE_PASTE_(a, b) a##b
#define LM_NATIVE_PASTE(a, b)  LM_NATIVE_PASTE_(a, b)
#define LM_NATIVE_STAMP        LM_NATIVE_PASTE(lm_native_, LM_NATIVE_KEY)

#ifdef __cplusplus
extern "C"
#else
extern
#endif
const struct lm_native LM_NATIVE_STAMP;
`

const stampSource = `#include "lm_native.h"

const struct lm_native LM_NATIVE_STAMP = { %q, LM_NATIVE_SIZES };
`

func stampText(m manifest) string { return m.Version + " " + m.Tree + " " + m.Key }

// stamp writes lm_native.h and compiles the stamp's archive into stage.
func (b cmakeBuild) stamp(ctx context.Context, stage, ar string) error {
	if err := os.WriteFile(filepath.Join(stage, "include", "lm_native.h"), []byte(stampHeader), 0o644); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(stage), "stamp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	src, obj := filepath.Join(tmp, "lm_native.c"), filepath.Join(tmp, "lm_native.o")
	text := stampText(manifest{Version: b.version, Tree: b.tree, Key: b.key})
	if err := os.WriteFile(src, fmt.Appendf(nil, stampSource, text), 0o644); err != nil {
		return err
	}
	args := append(slices.Clone(b.cc), "-O2", "-fPIC", "-DLM_NATIVE_KEY="+b.key,
		"-I"+filepath.Join(stage, "include"), "-I"+filepath.Join(stage, "ggml/include"), "-c", src, "-o", obj)
	if err := (child{args: args, env: b.buildEnv()}).run(ctx); err != nil {
		return err
	}
	return child{args: []string{cmp.Or(ar, "ar"), "rcs", filepath.Join(stage, "lib", stampLibrary), obj}}.run(ctx)
}
