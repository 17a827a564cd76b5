package gpu_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestWithoutCgo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "./testdata/nocgo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CGO_ENABLED=1") {
		t.Errorf("%v\n%s", err, out)
	}
}
