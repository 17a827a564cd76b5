package main

import (
	"context"
	"errors"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// tune is what [llama.Tune] finds under its default bound: how many times faster its
// choice is than the file, which is once where it keeps the file.
func (b *bench) tune(ctx context.Context, row string) (err error) {
	dir, err := os.MkdirTemp("", "bench-tune-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return b.repeat(ctx, row, nil, func(ctx context.Context) (metrics, error) {
		r, err := llama.Tune(ctx, b.model, llama.TuneParams{NThreads: b.threads, Dir: dir, Again: true})
		if err != nil {
			return nil, err
		}
		m := metrics{"file prefill": r.File.Prefill, "file decode": r.File.Decode, "prefill": 1, "decode": 1, "loss": 0}
		for _, candidate := range r.Candidates {
			b.say("%s: %+v", row, candidate)
			if candidate.Type == r.Type {
				m["prefill"], m["decode"], m["loss"] = candidate.PrefillGain, candidate.DecodeGain, candidate.Loss
			}
		}
		return m, nil
	})
}
