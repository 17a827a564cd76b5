package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// 'run --raw' prints what llama-completion of the same llama.cpp prints.
func TestRunPrintsWhatLlamaCompletionPrints(t *testing.T) {
	const peer = "../../bin/peers/llama-completion"
	if _, err := os.Stat(peer); err != nil {
		t.Skip("llama-completion is not built: run 'make peers'")
	}
	model, err := hub.Pull(t.Context(), "default", hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, prompt := range []string{"The capital of France is", "Once upon a time", "def fibonacci(n):", "Le café 🙂 coûte"} {
		t.Run(prompt, func(t *testing.T) {
			args := []string{"-p", prompt, "-n", "8", "--temp", "0", "-m", model.Path}
			theirs, err := exec.Command(peer, append(args, "-no-cnv", "--no-display-prompt")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			ours, err := exec.Command("lm-sandbox", append([]string{"run", "--raw"}, args...)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			// llama-completion ends its output with an empty line of its own.
			if want := strings.TrimSuffix(string(theirs), "\n\n"); string(ours) != want {
				t.Errorf("got %q, llama-completion prints %q", ours, want)
			}
		})
	}
}
