//go:build cgo

package native

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where llama.cpp was not built, the first error of the build names the command that builds it.
func TestHeaderNamesTheCommand(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "cc", "-fsyntax-only", "-x", "c", "shim.h").CombinedOutput()
	require.Error(t, err)
	_, first, _ := strings.Cut(string(out), "error: ")
	first, _, _ = strings.Cut(first, "\n")
	require.Contains(t, first, "llama.cpp is not built: run 'make native' in a clone, or "+
		"'go run github.com/lm-sandbox/lm-sandbox/cmd/llamacpp@VERSION install' in your module")
}

func TestInit(t *testing.T) {
	require.NoError(t, Init())
	require.NoError(t, Init())
}
