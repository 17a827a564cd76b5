package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// deviceKind is a sort of node that may be lent: what it is called, and the drivers
// of which /proc/devices must name one for its number.
type deviceKind struct {
	name    *regexp.Regexp
	drivers []string
}

// deviceKinds compute and nothing else: of DRM only the render nodes, which cannot
// set a screen's mode. Other devices (kvm, disks, input, tun) are the host itself.
var deviceKinds = []deviceKind{
	{regexp.MustCompile(`^/dev/nvidia[0-9]+$`), []string{"nvidia", "nvidia-frontend"}},
	{regexp.MustCompile(`^/dev/nvidiactl$`), []string{"nvidia", "nvidiactl", "nvidia-frontend"}},
	{regexp.MustCompile(`^/dev/nvidia-uvm(-tools)?$`), []string{"nvidia-uvm"}},
	{regexp.MustCompile(`^/dev/nvidia-caps/nvidia-cap[0-9]+$`), []string{"nvidia-caps"}}, // parts of a GPU (MIG)
	{regexp.MustCompile(`^/dev/dri/renderD[0-9]+$`), []string{"drm"}},
	{regexp.MustCompile(`^/dev/kfd$`), []string{"kfd"}},
}

var cudaNode = regexp.MustCompile(`^/dev/nvidia([0-9]+|ctl|-uvm)$`)

func gpuDevices() []string {
	nodes, _ := filepath.Glob("/dev/nvidia*") // the pattern is right
	return slices.DeleteFunc(nodes, func(node string) bool {
		return !cudaNode.MatchString(node) || checkDevice("", node) != nil
	})
}

// checkDevices refuses what is no GPU.
func (c *Config) checkDevices() error {
	for i, d := range c.Devices {
		field := fmt.Sprintf("Devices[%d]", i)
		if err := checkInside(field, d); err != nil {
			return err
		}
		if slices.Contains(c.Devices[:i], d) {
			return &ErrConfig{field, fmt.Sprintf("%.64q is there already", d)}
		}
		if err := checkDevice(field, d); err != nil {
			return err
		}
	}
	return nil
}

func checkDevice(field, node string) error {
	i := slices.IndexFunc(deviceKinds, func(k deviceKind) bool { return k.name.MatchString(node) })
	if i < 0 {
		return &ErrConfig{field, fmt.Sprintf("%.64q is no GPU's: /dev/nvidia*, /dev/dri/renderD* and /dev/kfd can be had", node)}
	}
	var st unix.Stat_t
	if err := unix.Lstat(node, &st); err != nil {
		return &ErrDevice{node, err.Error(), "load the GPU's driver ('nvidia-modprobe -u -c 0' makes NVIDIA's nodes); 'lm-sandbox gpu' shows what there is", err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return &ErrConfig{field, fmt.Sprintf("%.64q is no character device", node)}
	}
	drivers, err := driversOf(unix.Major(st.Rdev))
	if err != nil {
		return err
	}
	for _, d := range drivers {
		if slices.Contains(deviceKinds[i].drivers, d) {
			return nil
		}
	}
	return &ErrConfig{field, fmt.Sprintf("%.64q has the number of another driver: %q", node, drivers)}
}

// driversOf are the names of a major number of character devices (proc_devices(5)).
func driversOf(major uint32) ([]string, error) {
	b, err := os.ReadFile("/proc/devices")
	if err != nil {
		return nil, &ErrSetup{"look for the driver of a device", "/proc/devices", err}
	}
	var names []string
	characters, _, _ := strings.Cut(string(b), "Block devices:")
	for line := range strings.Lines(characters) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == fmt.Sprint(major) {
			names = append(names, f[1])
		}
	}
	return names, nil
}

// explainDevice is the helper's failure to lend a node, nil if it was about another thing.
func explainDevice(detail string, errno syscall.Errno, r *proto.Request, c *Config) error {
	node := "/" + detail
	if !slices.Contains(c.Devices, node) {
		return nil
	}
	if errno != syscall.EACCES {
		return &ErrDevice{node, errno.Error(), "'lm-sandbox doctor' shows what this host allows", errno}
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = int(r.SpareUID)
		var st unix.Stat_t
		if c.Workspace != "" && unix.Stat(c.Workspace, &st) == nil && st.Uid != 0 && st.Uid != overflowID {
			uid = int(st.Uid)
		}
	}
	remedy := fmt.Sprintf("allow it: 'setfacl -m u:%d:rw %s', or a udev rule that lasts", uid, node)
	if os.Geteuid() != 0 {
		remedy = fmt.Sprintf("make uid %d a member of the group of %s (often 'video' or 'render')", uid, node)
	}
	return &ErrDevice{node, fmt.Sprintf("uid %d, as which the sandbox runs, may not read and write it", uid), remedy, errno}
}
