package main

import (
	"errors"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

// checkGPU tells which GPUs llama.cpp computes on, else what it would take.
func checkGPU(s gpuState) check {
	c := check{Name: "gpu", Status: checkOK}
	var none *gpu.ErrNoDriver
	switch {
	case s.err == nil:
		texts := make([]string, len(s.used))
		for i, u := range s.used {
			texts[i] = u.String()
		}
		c.Detail = strings.Join(texts, "; ")
	case errors.As(s.err, &none) && !none.HasGPU:
		c.Detail = "none found; the processor computes"
	default:
		c.Status = checkWarn
		c.Detail, c.Remedy = explainGPU(s.err)
	}
	return c
}
