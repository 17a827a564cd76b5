package llama_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func init() {
	children["full disk"] = func() error {
		dir := os.Getenv("TEST_DIR")
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 20000, Max: 20000}); err != nil {
			return err
		}
		err := llama.Quantize(context.Background(), filepath.Join(dir, "in.gguf"), filepath.Join(dir, "out.gguf"), llama.QuantizeParams{Type: "F16"})
		if !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("got %w, want the file system's own error", err)
		}
		return nil
	}
}

// What the file system says is the error, and nothing is left behind.
func TestQuantizeFullDisk(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in.gguf"), fixture.Llama(1).Bytes(), 0o600))
	runChild(t, "full disk", time.Minute, "TEST_DIR="+dir)
	requireAlone(t, filepath.Join(dir, "in.gguf"))
}
