// Command nocgo asks for GPUs without cgo: it is told that it cannot.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

func main() {
	_, err := gpu.Check(gpu.Requirements{})
	if !errors.Is(err, gpu.ErrUnsupported) {
		fmt.Fprintln(os.Stderr, "got", err)
		os.Exit(1)
	}
	fmt.Println(err)
}
