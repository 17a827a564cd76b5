// Command nocgo is built by a test with CGO_ENABLED=0: the package compiles and says why nothing works.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func main() {
	_, load := llama.LoadModel(context.Background(), "model.gguf", llama.ModelParams{})
	_, system := llama.SystemInfo()
	_, devices := llama.Devices()
	_, schema := llama.SchemaToGrammar([]byte("{}"))
	for _, err := range []error{load, system, devices, schema} {
		if !errors.Is(err, llama.ErrUnsupported) {
			fmt.Println("not ErrUnsupported:", err)
			os.Exit(1)
		}
	}
	fmt.Println(load)
}
