package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// slowType is one of which neither llama.cpp nor its edits have a fast product on x86.
const slowType = "Q5_1"

// tune is what [llama.Tune] finds under its default bound, for the default model and for the same model in a type that is
// slow: how many times faster its choice is than the file, which is once where it keeps the file.
func (b *bench) tune(ctx context.Context, row string) (err error) {
	dir, err := os.MkdirTemp("", "bench-tune-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	slow := filepath.Join(dir, "slow.gguf")
	if err := llama.Quantize(ctx, b.model, slow, llama.QuantizeParams{Type: slowType, AllowRequantize: true}); err != nil {
		return err
	}
	return b.repeat(ctx, row, nil, func(ctx context.Context) (metrics, error) {
		m := metrics{}
		if err := b.tuneFile(ctx, b.model, dir, "", m); err != nil {
			return nil, err
		}
		return m, b.tuneFile(ctx, slow, dir, slowType+" ", m)
	})
}

// tuneFile adds figures whose names begin with prefix.
func (b *bench) tuneFile(ctx context.Context, path, dir, prefix string, m metrics) error {
	r, err := llama.Tune(ctx, path, llama.TuneParams{NThreads: b.threads, Dir: dir, Again: true})
	if err != nil {
		return err
	}
	m[prefix+"file prefill"], m[prefix+"file decode"] = r.File.Prefill, r.File.Decode
	m[prefix+"prefill"], m[prefix+"decode"], m[prefix+"loss"] = 1, 1, 0
	for _, c := range r.Candidates {
		b.say("%s: %+v", path, c)
		if c.Type == r.Type {
			m[prefix+"prefill"], m[prefix+"decode"], m[prefix+"loss"] = c.PrefillGain, c.DecodeGain, c.Loss
		}
	}
	return nil
}
