// Command pool runs many commands, each in a sandbox that nobody has used before and
// that was ready before it was needed.
//
//	go run ./examples/pool
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	if err := demonstrate(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pool:", err)
		os.Exit(1)
	}
}

const commands = 20

func demonstrate(ctx context.Context) (err error) {
	pool, err := sandbox.NewPool(sandbox.Config{}, 4)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	var times []time.Duration
	for i := range commands {
		begin := time.Now()
		r, err := pool.Run(ctx, sandbox.Lease{}, "ls /tmp | wc -l; touch /tmp/mine")
		if err != nil {
			return err
		}
		times = append(times, time.Since(begin))
		if string(r.Stdout) != "0\n" {
			return fmt.Errorf("command %d sees files of another: %q", i, r.Stdout)
		}
		time.Sleep(10 * time.Millisecond) // a model would think for longer
	}
	slices.Sort(times)
	stats := pool.Stats()
	fmt.Printf("%d commands, none saw another's files; %d started warm, half of all took less than %v\n",
		commands, stats.Warm, times[commands/2].Round(100*time.Microsecond))
	return nil
}
