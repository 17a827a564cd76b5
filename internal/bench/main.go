package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

func main() {
	engine.RunWorker()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(log)
	var (
		names    = fs.String("rows", "all", "rows to measure, by `name`, with commas between; none: only write the report")
		settings = fs.String("settings", "", "measure only settings that match this `regexp`, and keep the others' cells")
		rounds   = fs.Int("rounds", 5, "`number` of rounds of each load")
		pairs    = fs.Int("pairs", 15, "`number` of pairs of each comparison of raw speed")
		foreign  = fs.Float64("foreign", 0.05, "discard rounds during which others used more than this `share` of the machine")
		resume   = fs.Bool("resume", false, "keep the rounds that are there and measure those that are missing")
		quick    = fs.Bool("quick", false, "one round, one pair, on a busy machine too: to see that it works")
		path     = fs.String("data", "internal/bench/results.json", "`file` that collects the results")
		output   = fs.String("o", "BENCHMARKS.md", "`file` to write the report to")
	)
	if len(args) == 2 && args[0] == childOpenClose {
		return openAndClose(ctx, args[1])
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *quick {
		*rounds, *pairs, *foreign = 1, 1, 1
	}
	only, err := regexp.Compile(*settings)
	if err != nil {
		return err
	}
	all := rows()
	chosen, err := choose(all, *names)
	if err != nil {
		return err
	}
	d, err := loadData(*path)
	if err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	var failed []error
	if len(chosen) > 0 {
		model, err := hub.Pull(ctx, "default", hub.Options{})
		if err != nil {
			return err
		}
		on, err := describe(ctx, model.Name)
		if err != nil {
			return err
		}
		b := &bench{
			data: d, path: *path, on: on, model: model.Path, threads: runtime.NumCPU(), rounds: *rounds, pairs: *pairs,
			foreign: *foreign, resume: *resume, settings: only, log: log,
		}
		b.say("about %v on two quiet cores", estimate(chosen, *rounds, *pairs).Round(time.Minute))
		for _, r := range chosen {
			// One that fails leaves the others to be measured.
			if err := r.measure(b, ctx, r.name); err != nil {
				failed = append(failed, err)
				b.say("%s: %v", r.name, err)
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	file, err := os.Create(*output)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := writeReport(file, d, all, across(), reasons(reasonsText)); err != nil {
		return err
	}
	return errors.Join(append(failed, file.Close())...)
}

// choose finds rows by their names.
func choose(all []row, names string) ([]row, error) {
	switch names {
	case "all":
		return all, nil
	case "none":
		return nil, nil
	}
	var chosen []row
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(r row) bool { return r.name == name })
		if i < 0 {
			var known []string
			for _, r := range all {
				known = append(known, r.name)
			}
			return nil, fmt.Errorf("no row %q: there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func estimate(chosen []row, rounds, pairs int) time.Duration {
	minutes := 0.0
	for _, r := range chosen {
		minutes += r.minutes*float64(rounds) + r.pairMinutes*float64(pairs)
	}
	return time.Duration(minutes * float64(time.Minute))
}
