package sandbox

import (
	"math"
	"time"
)

// minPids leaves room for the payload and one child of it.
const minPids = 2

// withDefaults fills in zero fields and refuses what cannot be.
func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name string
		bad  bool
	}{
		{"Wall", l.Wall < 0}, {"CPU", l.CPU < 0}, {"Memory", l.Memory < 0}, {"Pids", l.Pids < 0},
		{"Disk", l.Disk < 0}, {"Files", l.Files < 0}, {"Output", l.Output < 0},
		{"Workspace", l.Workspace < 0}, {"WorkspaceFiles", l.WorkspaceFiles < 0},
		{"CPUs", l.CPUs < 0 || math.IsNaN(l.CPUs) || math.IsInf(l.CPUs, 0)}, {"ReadRate", l.ReadRate < 0}, {"WriteRate", l.WriteRate < 0},
	} {
		if f.bad {
			return l, &ErrConfig{"Limits." + f.name, "negative or no number; 0 gives the default"}
		}
	}
	l.Wall = orDefault(l.Wall, DefaultWall)
	l.CPU = orDefault(l.CPU, DefaultCPU)
	l.Memory = orDefault(l.Memory, DefaultMemory)
	l.Pids = orDefault(l.Pids, DefaultPids)
	l.Disk = orDefault(l.Disk, DefaultDisk)
	l.Files = orDefault(l.Files, DefaultFiles)
	l.Output = orDefault(l.Output, DefaultOutput)
	if l.Pids < minPids {
		return l, &ErrConfig{"Limits.Pids", "less than 2 leaves no room for a command"}
	}
	l.Pids = min(l.Pids, math.MaxInt32)
	l.Files = min(l.Files, math.MaxInt32)
	return l, nil
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// cpuSeconds is CPU as the kernel counts it, at least 1.
func (l Limits) cpuSeconds() uint64 {
	return uint64((l.CPU-1)/time.Second) + 1
}

// cpuGrace lets the SIGXCPU of a single process come first.
const cpuGrace = 200 * time.Millisecond

// treeCPU is what all processes together may use, in ms.
func (l Limits) treeCPU() uint64 {
	return l.cpuSeconds()*1000 + uint64(cpuGrace/time.Millisecond)
}

// needGroup says whether something is asked for that only a control group can keep.
func (l Limits) needGroup() bool { return l.CPUs > 0 || l.ReadRate > 0 || l.WriteRate > 0 }
