package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

const (
	restartServer = "llama-server -np 1 -c 8192"
	restartSaver  = restartServer + " --slot-save-path"
)

// restart is the time from the start of the process to the first token of a prompt
// that was answered before the restart.
func (b *bench) restart(ctx context.Context, row string) error {
	dir, err := os.MkdirTemp("", "bench-restart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plain, slots := b.llamaServer("-np 1 -c 8192"), b.llamaServer("-np 1 -c 8192")
	slots.name = restartSaver
	slots.argv = append(slots.argv, "--slot-save-path", dir+"/")
	settings := []setting{ours(oursName, "--cache-dir", dir), plain, slots}
	question := newChat(outputTokens, message{Role: "system", Content: text(1, systemTokens)}, message{Role: "user", Content: text(2, askTokens)})
	return b.loads(ctx, row, settings, func(ctx context.Context, v *server) (metrics, error) {
		saves := v.setting.name == slots.name
		if _, err := (client{url: v.url}).ask(ctx, question); err != nil {
			return nil, err
		}
		if saves {
			if err := slot(ctx, v.url, "save"); err != nil {
				return nil, err
			}
		}
		if err := v.stop(); err != nil {
			return nil, err
		}
		start := time.Now()
		again, err := startServer(ctx, v.setting)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, again.stop()) }()
		if saves {
			if err := slot(ctx, again.url, "restore"); err != nil {
				return nil, err
			}
		}
		a, err := client{url: again.url}.ask(ctx, question)
		if err != nil {
			return nil, err
		}
		return metrics{"first token": a.deltas[0].Sub(start).Seconds(), "start": again.ready.Seconds(), "computed": float64(a.timings.PromptN)}, nil
	})
}

// slot saves or restores what llama-server's only slot holds.
func slot(ctx context.Context, url, action string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/slots/0?action="+action, bytes.NewReader([]byte(`{"filename":"slot"}`)))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("slot %s: %s", action, answer.Status)
	}
	return nil
}
