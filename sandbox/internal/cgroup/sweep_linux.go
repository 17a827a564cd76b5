package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Groups are named after the process that made them, its pid namespace and its
// start, so that those of a killed one are known for what they are.
const prefix = "lm-sandbox."

func (p *place) name(n uint64) string {
	return fmt.Sprintf("%s%d.%d.%s.%d", prefix, pidNamespace(), os.Getpid(), started(os.Getpid()), n)
}

// sweep removes the groups of processes that are dead. A group with a
// process in it cannot be removed.
func (p *place) sweep() {
	dirs := []string{p.v2}
	if p.v2 == "" {
		dirs = nil
		for _, dir := range p.v1 {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() && orphaned(e.Name()) {
				_ = unix.Rmdir(filepath.Join(dir, e.Name()))
			}
		}
	}
}

func orphaned(name string) bool {
	f := strings.Split(strings.TrimPrefix(name, prefix), ".")
	if !strings.HasPrefix(name, prefix) || len(f) != 4 || f[0] != strconv.FormatUint(pidNamespace(), 10) {
		return false
	}
	pid, err := strconv.Atoi(f[1])
	return err == nil && f[2] != "" && started(pid) != f[2]
}

func pidNamespace() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// started is when a process was started, in ticks since boot; "" if there is none.
func started(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	const start = 22 - 2 // of the fields behind the name
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < start {
		return ""
	}
	return f[start-1]
}
