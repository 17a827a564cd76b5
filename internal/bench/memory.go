package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

const (
	mb           = 1 << 20
	memoryTokens = 200 // of each prompt and of each answer
)

// memory is the time of the start and what 16 sequences take; the default model's
// context, which is our default, has 8192 cells.
func (b *bench) memory(ctx context.Context, row string) error {
	settings := []setting{ours(oursName), b.llamaServer("-np 16 -c 8192"), b.llamaServer("-np 16 -c 8192 -kvu")}
	return b.loads(ctx, row, settings, func(ctx context.Context, v *server) (metrics, error) {
		m := metrics{"start": v.ready.Seconds()}
		chats := make([]chat, clients)
		for i := range chats {
			chats[i] = newChat(memoryTokens, message{Role: "user", Content: text(uint64(i), memoryTokens)})
		}
		wait := startAll(ctx, v.url, chats, 1)
		during, err := v.memory()
		_, errs := wait()
		after, afterErr := v.memory()
		m["memory"], m["after"] = float64(during)/mb, float64(after)/mb
		err = errors.Join(err, afterErr, errors.Join(errs...))
		return m, err
	})
}

const (
	fewRounds  = 5
	manyRounds = 100
	// childOpenClose as the first argument makes this program the child that openClose measures.
	childOpenClose = "open-close"
)

// openClose is the memory of a process that has opened and closed engines.
func (b *bench) openClose(ctx context.Context, row string) error {
	argv := []string{os.Args[0], childOpenClose, b.model}
	return b.repeat(ctx, row, []string{"bench", childOpenClose, b.model}, func(ctx context.Context) (metrics, error) {
		out, err := output(ctx, argv)
		if err != nil {
			return nil, err
		}
		var few, many int
		if _, err := fmt.Sscan(string(out), &few, &many); err != nil {
			return nil, err
		}
		return metrics{"few": float64(few) / mb, "many": float64(many) / mb, "growth": float64(many) / float64(few)}, nil
	})
}

// openAndClose is the child: it prints its resident memory after a few rounds and after many.
func openAndClose(ctx context.Context, model string) error {
	for i := 1; i <= manyRounds; i++ {
		e, err := engine.Open(ctx, model, engine.Params{NCtx: 2048})
		if err != nil {
			return err
		}
		_, err = generate(ctx, e, []llama.Token{1, 2, 3, 4}, 4, &llama.SamplerParams{})
		if err := errors.Join(err, e.Close()); err != nil {
			return err
		}
		if i == fewRounds || i == manyRounds {
			status, err := os.ReadFile("/proc/self/status")
			if err != nil {
				return err
			}
			resident, err := parseResident(status)
			if err != nil {
				return err
			}
			fmt.Println(resident)
		}
	}
	return nil
}

// parseResident reads /proc/PID/status.
func parseResident(status []byte) (int, error) {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status has no VmRSS")
}
