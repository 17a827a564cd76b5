package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// batchedResult is a line of llama-batched-bench --output-format jsonl.
type batchedResult struct {
	Streams     int     `json:"pl"`
	Seconds     float64 `json:"t"`
	DecodeSpeed float64 `json:"speed_tg"` // tokens/s
}

func (b *bench) batchedArgv(args string) []string {
	argv := []string{"bin/peers/llama-batched-bench", "-m", b.model, "-t", strconv.Itoa(b.threads), "--output-format", "jsonl"}
	return append(argv, strings.Fields(args)...)
}

func runBatched(ctx context.Context, argv []string) ([]batchedResult, error) {
	out, err := output(ctx, argv)
	if err != nil {
		return nil, err
	}
	return parseBatched(out)
}

// parseBatched reads its lines; the other lines are logs.
func parseBatched(out []byte) ([]batchedResult, error) {
	var results []batchedResult
	for line := range bytes.Lines(out) {
		line = bytes.TrimSpace(line)
		if !bytes.HasPrefix(line, []byte(`{"n_kv_max"`)) {
			continue
		}
		var r batchedResult
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("llama-batched-bench printed no result:\n%s", tail(out))
	}
	return results, nil
}

// output is what a program writes to its standard output.
func output(ctx context.Context, argv []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, tail(log.Bytes()))
	}
	return out, nil
}

// batched is the load of a shared prompt without a server: llama.cpp's own measure of
// what the machine can do.
func (b *bench) batched(ctx context.Context, row string) error {
	for _, layout := range []string{"-kvu -c 4096", "-no-kvu -c 16384"} {
		argv := b.batchedArgv(fmt.Sprintf("-npp 620 -ntg %d -npl %d -pps %s", outputTokens, clients, layout))
		c := b.begin(row, layout, argv)
		for len(c.Rounds) < b.rounds {
			err := b.measure(ctx, c, func(ctx context.Context) (metrics, error) {
				results, err := runBatched(ctx, argv)
				if err != nil {
					return nil, err
				}
				return metrics{"wall": results[0].Seconds}, nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
