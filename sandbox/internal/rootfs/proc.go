package rootfs

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// What of /proc is not of processes is hidden but for openProc, which says what
// kind of machine it is and how busy, and readOnlyProc. What a kernel has besides,
// and what it will have, stays hidden until it is put here.
var (
	openProc = map[string]bool{
		"buddyinfo": true, "cgroups": true, "consoles": true, "cpuinfo": true, "crypto": true, "devices": true, "dma": true,
		"execdomains": true, "filesystems": true, "loadavg": true, "locks": true, "meminfo": true, "misc": true, "pressure": true,
		"stat": true, "sysvipc": true, "tty": true, "uptime": true, "version": true, "vmstat": true, "zoneinfo": true,
	}
	readOnlyProc = []string{"irq", "sys", "sysrq-trigger"}
)

// The kernel decides what /proc has, so it is looked up once; a failure is not kept.
var masks struct {
	sync.Mutex
	ops []proto.Op
}

func procMasks() ([]proto.Op, error) {
	masks.Lock()
	defer masks.Unlock()
	if masks.ops != nil {
		return masks.ops, nil
	}
	p := &plan{}
	const inside = proto.BindInside | proto.BindExisting | proto.BindOptional | proto.BindReadOnly
	list, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if hidden(e) && e.IsDir() {
			p.bind("proc/"+e.Name(), "run", inside)
		} else if hidden(e) {
			p.bind("proc/"+e.Name(), "dev/null", inside|proto.BindDevice)
		}
	}
	for _, name := range readOnlyProc {
		p.bind("proc/"+name, "proc/"+name, inside)
	}
	p.bind("proc/sys/kernel/random/boot_id", "etc/"+bootID, inside)
	masks.ops = p.ops
	return masks.ops, nil
}

// hidden says whether an entry needs a mask. What only root may read needs none:
// the payload is nobody's root. Links lead to what is masked, or not.
func hidden(e fs.DirEntry) bool {
	if _, err := strconv.Atoi(e.Name()); err == nil || openProc[e.Name()] || slices.Contains(readOnlyProc, e.Name()) || e.Type()&fs.ModeSymlink != 0 {
		return false
	}
	st, err := e.Info()
	return err == nil && st.Mode().Perm()&0o077 != 0
}

// proc shows what drivers tell only to one who has a device of theirs.
func (p *plan) proc(drivers bool) error {
	ops, err := procMasks()
	if err != nil {
		return err
	}
	p.ops = append(p.ops, proto.Op{Kind: proto.OpProc, Path: "proc"})
	for _, mask := range ops {
		if !drivers || mask.Path != "proc/driver" {
			p.ops = append(p.ops, mask)
		}
	}
	return nil
}
