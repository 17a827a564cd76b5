package llama

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// readMemory gives what this process may still take of a device's memory and the most it ever could, in bytes; 0 and 0 where
// nobody says. Tests replace it.
var readMemory = func(d native.Device) (free, total uint64) {
	if d.Type == "cpu" { // of which ggml takes all for free
		return readMainMemory(os.DirFS("/"))
	}
	return d.MemoryFree, d.MemoryTotal
}

// readMainMemory reads below a root directory what is left of main memory: the least of /proc/meminfo and of the limits of the
// process's cgroups, version 1 or 2, and those above them. Page cache that can be dropped is free; swap is not, since a model
// in swap is useless.
func readMainMemory(root fs.FS) (free, total uint64) {
	meminfo := fields(root, "proc/meminfo")
	free, total = meminfo["MemAvailable:"]<<10, meminfo["MemTotal:"]<<10
	if total == 0 || free == 0 {
		return 0, 0
	}
	machine := total
	for _, c := range memoryCgroups(root) {
		limit, ok := number(root, path.Join(c.dir, c.limit))
		if high, has := number(root, path.Join(c.dir, c.soft)); has {
			limit, ok = min(limit, high), true
		}
		if !ok || limit >= machine { // one above may be higher and have less left: others are in it
			continue
		}
		used, _ := number(root, path.Join(c.dir, c.usage))
		stat := fields(root, path.Join(c.dir, "memory.stat"))
		cache := stat[c.prefix+"inactive_file"] + stat[c.prefix+"active_file"] + stat["slab_reclaimable"]
		used -= min(used, cache)
		total, free = min(total, limit), min(free, limit-min(limit, used))
	}
	return free, total
}

// memoryCgroup is a directory of the memory controller and the names of its files.
type memoryCgroup struct{ dir, limit, soft, usage, prefix string }

// memoryCgroups lists the cgroups that the process is in, up to the root.
func memoryCgroups(root fs.FS) (out []memoryCgroup) {
	const mount = "sys/fs/cgroup"
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		// hierarchy:controllers:path; version 2 is 0::path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var c memoryCgroup
		switch {
		case parts[0] == "0" && parts[1] == "":
			c = memoryCgroup{mount, "memory.max", "memory.high", "memory.current", ""}
		case strings.Contains(","+parts[1]+",", ",memory,"):
			c = memoryCgroup{mount + "/memory", "memory.limit_in_bytes", "", "memory.usage_in_bytes", "total_"}
		default:
			continue
		}
		// In a container without a cgroup namespace the path is the host's, and the mount shows the container's own.
		base := c.dir
		for p := path.Clean("/" + parts[2]); ; p = path.Dir(p) {
			c.dir = path.Join(base, p)
			out = append(out, c)
			if p == "/" {
				break
			}
		}
	}
	return out
}

// number reads a file of one number; "max" and what is not there is no limit.
func number(root fs.FS, name string) (uint64, bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxUint64, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return math.MaxUint64, false
	}
	return n, true
}

// fields reads a file of lines with a name and a number.
func fields(root fs.FS, name string) map[string]uint64 {
	out := map[string]uint64{}
	text, _ := fs.ReadFile(root, name)
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) >= 2 {
			if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				out[f[0]] = n
			}
		}
	}
	return out
}
