package engine_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// onGPU insists on a GPU. Package gpu knows why there is none: its Check belongs here.
type onGPU struct{}

func (onGPU) CheckModel(_ context.Context, need llama.MemoryNeed) error {
	if need.NGPULayers == 0 {
		return errors.New("no layer would be on a GPU")
	}
	return nil
}

func ExamplePreflight() {
	e, err := engine.Open(context.Background(), "model.gguf", engine.Params{Preflight: onGPU{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
}
