package rootfs

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// gpus shows device nodes, and the parts of /sys without which a driver's library
// does not start: processors, memory nodes, the PCI devices that are GPUs. The rest
// of /sys (disks, network cards, serial numbers) stays outside.
func (p *plan) gpus(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	for _, node := range nodes {
		name := strings.TrimPrefix(node, "/")
		p.parents(name)
		p.bind(name, node, proto.BindReadOnly|proto.BindDevice|proto.BindFile) // read-only: its mode, not what is written to it
	}
	for _, d := range []string{"sys/bus/pci/devices/", "sys/class/drm/", "sys/dev/char/", "sys/devices/system/", "sys/module/"} {
		p.parents(d)
	}
	for _, d := range []string{"devices/system/cpu", "devices/system/node", "devices/virtual/kfd", "module/nvidia", "module/nvidia_uvm", "module/amdgpu"} {
		p.show("/sys/" + d)
	}
	for _, link := range glob("/sys/bus/pci/devices/*") {
		if class, err := os.ReadFile(link + "/class"); err == nil && isGPU(string(class)) {
			p.show(realpath(link))
			p.same(link)
		}
	}
	for _, link := range append(glob("/sys/class/drm/renderD*"), glob("/sys/dev/char/226:*")...) {
		if target := realpath(link); strings.Contains(target, "/renderD") {
			p.same(link)
		}
	}
}

// isGPU reads a PCI class: displays, and processing accelerators.
func isGPU(class string) bool {
	return strings.HasPrefix(class, "0x03") || strings.HasPrefix(class, "0x12")
}

// show binds a directory of /sys, where there is one.
func (p *plan) show(dir string) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return
	}
	name := strings.TrimPrefix(dir, "/")
	p.parents(name)
	p.bind(name, dir, proto.BindReadOnly)
}

// same makes the link that the host has.
func (p *plan) same(link string) {
	if target, err := os.Readlink(link); err == nil {
		p.link(strings.TrimPrefix(link, "/"), target)
	}
}

func glob(pattern string) []string {
	names, _ := filepath.Glob(pattern) // the patterns are right
	return names
}

func realpath(link string) string {
	target, _ := filepath.EvalSymlinks(link) // "" is shown to nobody
	return target
}
