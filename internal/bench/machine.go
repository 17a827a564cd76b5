package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// describe names the machine and the versions that are measured.
func describe(ctx context.Context, model string) (string, error) {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("git describe: %w", err)
	}
	version, err := exec.CommandContext(ctx, "bin/peers/llama-server", "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: run 'make peers' first\n%s", err, version)
	}
	text := fmt.Sprintf("%d cores of %s, Linux %s, %s, lm-sandbox %s, llama.cpp %s (tree %s), %s", runtime.NumCPU(), cpuName(cpu),
		unix.ByteSliceToString(name.Release[:]), runtime.Version(), bytes.TrimSpace(commit), llamacpp.Version, llamacpp.Tree[:9], model)
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "OMP_") || strings.HasPrefix(v, "GOMP_") {
			text += ", " + v
		}
	}
	return text, nil
}

func cpuName(cpuinfo []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
