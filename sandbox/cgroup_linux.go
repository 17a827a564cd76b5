package sandbox

import (
	"math"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

const (
	// helperTasks are the launcher and pid 1, which count in a group's pids.
	helperTasks = 2
	// overhead is what the kernel charges for an empty sandbox: namespaces,
	// mounts, the two processes.
	overhead = 16 << 20
)

const groupRemedy = "run as root with a writable /sys/fs/cgroup, or in a cgroup v2 whose memory, pids and cpu are delegated " +
	"(systemd-run --user --scope -p Delegate=yes)"

// newGroup is replaced by tests, to be a host without control groups.
var newGroup = cgroup.New

// group adds a control group to r, if this host has any.
func (c *Config) group(l Limits, r *proto.Request) (*cgroup.Group, error) {
	g, err := newGroup(cgroup.Limits{
		Memory: addSaturated(l.Memory, overhead), Pids: min(l.Pids, math.MaxInt32-helperTasks) + helperTasks,
		CPUs: l.CPUs, Read: l.ReadRate, Write: l.WriteRate,
	})
	if err != nil {
		if c.MinLevel > LevelNamespaces || l.needGroup() {
			return nil, &ErrLevel{Want: LevelCgroup, Have: LevelNamespaces, Reason: err.Error(),
				Remedy: groupRemedy + "; or lower MinLevel and leave out Limits.CPUs, ReadRate and WriteRate"}
		}
		return nil, nil
	}
	r.Enter = g.Enter
	r.Gauges = []proto.Gauge{
		{Hit: proto.HitCPU, Limit: r.MaxCPU * uint64(time.Millisecond/g.CPUUnit), Path: g.CPU.Path, Key: g.CPU.Key},
		{Hit: proto.HitMemory, Limit: 1, Path: g.Kills.Path, Key: g.Kills.Key},
		{Hit: proto.HitTasks, Limit: 1, Path: g.Refused.Path, Key: g.Refused.Key},
	}
	besideGroup(&r.Run)
	return g, nil
}

// besideGroup lets the group refuse a process first, and count that; and memory that
// is only reserved, as sanitizers do by the terabyte, is none to the group.
func besideGroup(r *proto.Run) {
	r.Limits = slices.DeleteFunc(r.Limits, func(l proto.Limit) bool { return l.Resource == unix.RLIMIT_DATA })
	for i := range r.Limits {
		if r.Limits[i].Resource == unix.RLIMIT_NPROC {
			r.Limits[i].Value++
		}
	}
}

// join makes the control group of a sandbox that is to be started.
func (p *process) join(c *Config, l Limits, r *proto.Request) (err error) {
	if p.group, err = c.group(l, r); p.group != nil && p.level == LevelNamespaces {
		p.level = LevelCgroup
	}
	return err
}

// account tells what was used, and frees the group.
func (p *process) account(e proto.Exit) Usage {
	u := Usage{CPU: time.Duration(e.UserTime+e.SystemTime) * time.Microsecond, MemoryPeak: int64(e.Memory), PidsPeak: int64(e.Tasks),
		ReadBytes: int64(e.Read), WriteBytes: int64(e.Written)}
	if p.group == nil {
		return u
	}
	g := p.group.Usage()
	u.CPU, u.MemoryPeak, u.PidsPeak = g.CPU, g.Memory, max(g.Pids-helperTasks+initTasks, 0)
	return u
}
