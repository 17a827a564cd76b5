package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// TestWorkerOfAnotherProgram: the installed lm-sandbox is the worker of a program that does not call RunWorker.
func TestWorkerOfAnotherProgram(t *testing.T) {
	model, err := hub.Pull(t.Context(), "default", hub.Options{})
	require.NoError(t, err)
	bin := t.TempDir()
	for name, pkg := range map[string]string{"lm-sandbox": ".", "asker": "./testdata/asker"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	ask := func(path string) (string, error) {
		cmd := exec.Command(filepath.Join(bin, "asker"), model.Path)
		cmd.Env = append(os.Environ(), "PATH="+path)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	answer, err := ask(bin)
	require.NoError(t, err, answer)
	require.Equal(t, " Paris.", answer)
	answer, err = ask(t.TempDir())
	require.Error(t, err)
	require.Contains(t, answer, "have that in PATH")
}
