// Command gpu tells which NVIDIA GPUs a program could compute on, how much of their memory is free, who holds the rest,
// and where none can be used, why and what to do about it. It needs no CUDA, and starts on machines without a driver.
//
//	go run ./examples/gpu          # now
//	go run ./examples/gpu 2s       # then every 2 seconds, until Ctrl-C
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	if err := show(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gpu example:", err)
		os.Exit(1)
	}
}

func show(ctx context.Context, args []string) error {
	// A gigabyte is little, but a GPU that others have filled has less.
	report, err := gpu.Check(gpu.Requirements{FreeMemory: 1 << 30})
	var none *gpu.ErrNoDriver
	var refused *gpu.ErrRefused
	switch {
	case errors.As(err, &none):
		fmt.Println("no GPU:", none.Problem)
		fmt.Println("to do: ", none.Remedy)
		return nil
	case errors.As(err, &refused):
		for _, r := range refused.Refusals {
			fmt.Printf("%v [%s]\n", r, r.Reason)
		}
	case err != nil:
		return err
	}
	for _, i := range report.Usable {
		fmt.Println("usable:", report.Devices[i].Name)
	}
	if len(args) == 0 {
		return nil
	}
	interval, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	return watch(ctx, interval)
}

// watch prints the memory of each GPU until ctx is done.
func watch(ctx context.Context, interval time.Duration) (err error) {
	library, err := gpu.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, library.Close()) }()

	for devices, err := range library.Watch(ctx, interval) {
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		for _, d := range devices {
			fmt.Printf("GPU %d: %s of %s used, processes: %d\n", d.Index, gpu.GiB(d.Memory.Used), gpu.GiB(d.Memory.Total), len(d.Processes))
		}
	}
	return nil
}
