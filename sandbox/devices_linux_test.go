package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asGPU takes a node of another kind for a GPU's, for machines without one.
func asGPU(t *testing.T, node, driver string) {
	t.Helper()
	before := deviceKinds
	deviceKinds = append(slices.Clone(before), deviceKind{regexp.MustCompile("^" + node + "$"), []string{driver}})
	t.Cleanup(func() { deviceKinds = before })
}

func TestDevicesRefused(t *testing.T) {
	for _, node := range []string{
		"/dev/null", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/net/tun", "/dev/fuse", "/dev/mem", "/dev/tty", "/dev/input/event0", "/dev/dri/card0",
		"dev/nvidia0", "/dev/nvidia0/../kvm", "/dev/./nvidia0", "/dev/nvidia0x", "/dev/nvidia", "/dev/nvidia-caps", "/dev/dri", "/dev", "", "/dev/nvidia0\x00", "/etc/passwd",
		"/dev/nvidia0\n",
	} {
		_, err := Run(t.Context(), Config{Devices: []string{node}}, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config, node)
		require.Equal(t, "Devices[0]", config.Field)
	}
	_, err := Run(t.Context(), Config{Devices: []string{"/dev/nvidia987654"}}, "true")
	var device *ErrDevice
	require.ErrorAs(t, err, &device)
	require.ErrorIs(t, err, syscall.ENOENT)
	require.Contains(t, device.Remedy, "driver")
}

// A node works as a device, at its path, and no other comes along.
func TestDevice(t *testing.T) {
	asGPU(t, "/dev/zero", "mem")
	c := Config{Devices: []string{"/dev/zero"}}
	r := run(t, c, `head -c 3 /dev/zero | od -An -tx1; echo x >/dev/zero && echo written; chmod 600 /dev/zero; ls /dev; stat -c %a /dev/zero`)
	require.Equal(t, " 00 00 00\nwritten\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n666\n", string(r.Stdout))
	require.Contains(t, string(r.Stderr), "changing permissions")
	_, err := Run(t.Context(), Config{Devices: []string{"/dev/zero", "/dev/zero"}}, "true")
	require.ErrorContains(t, err, "there already")
}

// What CUDA needs besides, and no more of /sys.
func TestDeviceSurroundings(t *testing.T) {
	const look = `cat /sys/devices/system/cpu/online; ls /sys /sys/devices /sys/class; ls -d /sys/block /sys/kernel /sys/devices/virtual/dmi /sys/firmware 2>&-
		touch /sys/x 2>&1; echo 0 >/sys/devices/system/cpu/cpu0/online; echo name >/proc/self/task/$$/comm && cat /proc/$$/comm; ls -d /proc/driver/*`
	none := run(t, Config{}, look)
	require.NotContains(t, string(none.Stdout), "system", "without a device there is no /sys")
	require.Contains(t, string(none.Stdout), "name\n", "threads can be named")
	asGPU(t, "/dev/zero", "mem")
	r := run(t, Config{Devices: []string{"/dev/zero"}}, look)
	out := string(r.Stdout)
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(out, string(online)), out)
	for _, hidden := range []string{"block", "kernel", "firmware", "dmi", "net"} {
		require.NotContains(t, strings.Fields(out), hidden)
		require.NotContains(t, out, "/sys/"+hidden)
	}
	require.Contains(t, out, "Read-only file system")
	require.Contains(t, string(r.Stderr), "cpu0/online")
	shown, err := filepath.Glob("/proc/driver/*")
	require.NoError(t, err)
	for _, name := range shown {
		require.Contains(t, out, name)
		require.NotContains(t, string(none.Stdout), name)
	}
}

// The user behind the sandbox may not open it: it is said, with what to do.
func TestDeviceWithoutPermission(t *testing.T) {
	tried := 0
	for _, node := range []string{"/dev/fuse", "/dev/net/tun", "/dev/kvm"} {
		st, err := os.Stat(node)
		if err != nil || st.Mode().Perm()&0o006 != 0 || os.Geteuid() != 0 && unix.Access(node, unix.R_OK|unix.W_OK) == nil {
			continue
		}
		tried++
		asGPU(t, node, "misc")
		_, err = Run(t.Context(), Config{Devices: []string{node}}, "true")
		var device *ErrDevice
		require.ErrorAs(t, err, &device, node)
		require.ErrorIs(t, err, syscall.EACCES)
		require.Equal(t, node, device.Path)
		require.Regexp(t, "setfacl -m u:1900000000:rw|make uid 1000 a member", device.Remedy)
	}
	require.Positive(t, tried, "no node to try it with")
}

func init() {
	// In a mount namespace of its own, with nodes of its own.
	roles["nodes"] = func() {
		err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755"),
			os.MkdirAll("/mnt/gpu/sub", 0o755), unix.Mknod("/mnt/gpu/sub/node0", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))),
			unix.Mknod("/mnt/gpu/node1", unix.S_IFCHR|0o666, int(unix.Mkdev(195, 0))), unix.Mknod("/mnt/gpu/node2", unix.S_IFBLK|0o666, int(unix.Mkdev(1, 5))),
			os.Symlink("sub/node0", "/mnt/gpu/node3"), os.Chmod("/mnt/gpu/sub/node0", 0o666))
		if err != nil {
			fmt.Println(err)
			return
		}
		deviceKinds = append(deviceKinds, deviceKind{regexp.MustCompile("^/mnt/gpu/"), []string{"mem"}})
		r, err := Run(context.Background(), Config{Devices: []string{"/mnt/gpu/sub/node0"}}, "head -c 2 /mnt/gpu/sub/node0 | od -An -tx1; ls /mnt/gpu")
		fmt.Printf("%s%s%v\n", r.Stdout, r.Stderr, err)
		for _, node := range []string{"/mnt/gpu/node1", "/mnt/gpu/node2", "/mnt/gpu/node3"} {
			_, err := Run(context.Background(), Config{Devices: []string{node}}, "true")
			fmt.Println(err)
		}
	}
}

func TestDeviceNodes(t *testing.T) {
	needRoot(t)
	c := again("nodes")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, ` 00 00
sub
<nil>
sandbox: Devices[0]: "/mnt/gpu/node1" has the number of another driver: []
sandbox: Devices[0]: "/mnt/gpu/node2" is no character device
sandbox: Devices[0]: "/mnt/gpu/node3" is no character device
`, string(out))
}

func TestGPUDevices(t *testing.T) {
	nodes := GPUDevices()
	if _, err := os.Stat("/dev/nvidiactl"); err != nil {
		require.Empty(t, nodes)
		return
	}
	require.Contains(t, nodes, "/dev/nvidiactl")
	r := run(t, Config{Devices: nodes}, "ls "+strings.Join(nodes, " ")+"; ls /proc/driver/nvidia")
	require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
	require.NotEmpty(t, r.Stdout)
}
