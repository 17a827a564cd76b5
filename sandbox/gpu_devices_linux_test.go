package sandbox

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// No GPU is visible to a command: neither its device nodes, nor the driver's files, nor what the caller has open of them
// and forgot to mark close-on-exec, as CUDA does in a program that uses it.
func TestGPUNodesStayOutside(t *testing.T) {
	nodes, err := filepath.Glob("/dev/nvidia*")
	require.NoError(t, err)
	for _, node := range nodes {
		fd, err := syscall.Open(node, syscall.O_RDWR, 0)
		if err != nil {
			continue // a directory, or not the caller's to open
		}
		t.Cleanup(func() { require.NoError(t, syscall.Close(fd)) })
	}
	t.Logf("the host has %q", nodes)
	r := run(t, Config{}, `find /dev /proc/driver /sys -iname '*nvidia*' 2>&-; readlink /proc/[0-9]*/fd/*; env; mknod /tmp/n c 195 255 && cat /tmp/n; true`)
	require.NotContains(t, strings.ToLower(string(r.Stdout)), "nvidia")
	require.Contains(t, string(r.Stderr), "mknod", "the device of the driver can be made anew")
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"} {
		t.Setenv(name, "0")
		require.NotContains(t, string(run(t, Config{}, "env").Stdout), name)
	}
	require.Equal(t, "/dev/nvidia0 absent", strings.TrimSpace(string(run(t, Config{}, "test -e /dev/nvidia0 || echo /dev/nvidia0 absent").Stdout)))
}
