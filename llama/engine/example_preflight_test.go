package engine_test

import (
	"context"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// onGPU insists on a GPU that has room for the model.
type onGPU struct{}

func (onGPU) CheckModel(_ context.Context, need llama.MemoryNeed) error {
	var r gpu.Requirements
	for _, d := range need.Devices {
		if d.Type == "gpu" {
			r.FreeMemory += d.Need()
		}
	}
	_, err := gpu.Check(r)
	return err
}

func ExamplePreflight() {
	e, err := engine.Open(context.Background(), "model.gguf", engine.Params{Preflight: onGPU{}})
	if err != nil {
		problem, remedy := gpu.Explain(err)
		fmt.Println(problem, remedy)
		return
	}
	defer e.Close()
}
