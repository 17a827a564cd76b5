package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

func ExampleCheck() {
	report, err := gpu.Check(gpu.Requirements{FreeMemory: 8 << 30})
	var none *gpu.ErrNoDriver
	var refused *gpu.ErrRefused
	switch {
	case errors.As(err, &none):
		fmt.Println("on the processor, since", none.Problem)
		fmt.Println("to change that:", none.Remedy)
	case errors.As(err, &refused):
		for _, r := range refused.Refusals {
			fmt.Println(r.Device, r.Reason, r.Text, r.Remedy)
		}
	case err != nil:
		fmt.Println(err)
	default:
		for _, i := range report.Usable {
			fmt.Println(report.Devices[i].Name, gpu.GiB(report.Devices[i].Memory.Free), "free")
		}
	}
}

func ExampleLibrary_Watch() {
	library, err := gpu.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer library.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for devices, err := range library.Watch(ctx, time.Second) {
		if err != nil {
			break
		}
		for _, d := range devices {
			fmt.Println(d.Name, gpu.GiB(d.Memory.Used), d.Utilization, "%")
		}
	}
}
