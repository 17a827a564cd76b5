package sandbox

import (
	"math"
	"time"
)

// Limits bounds what one command may use. A zero field has the default; a
// negative one is an [ErrConfig].
type Limits struct {
	// Wall is the time from the call of Run or Start to the end. Then the whole
	// tree gets SIGKILL, with no grace: a command can ignore anything else.
	// Default 60 s.
	Wall time.Duration
	// CPU is processor time, whole seconds rounded up, of each process
	// (RLIMIT_CPU): a tree of n processes may use n times as much. Default 60 s.
	CPU time.Duration
	// Memory is bytes of anonymous memory of all processes together, as pid 1
	// samples it every 20 ms; above it the tree is killed. Between two samples
	// one process can reach twice the limit (RLIMIT_DATA), several can reach
	// more. Files on the sandbox's tmpfs count in Disk. Default 2 GiB.
	Memory int64
	// Pids is the number of processes and threads (RLIMIT_NPROC); more get EAGAIN.
	// Default 256.
	Pids int
	// Disk is bytes written to all places that die with the sandbox together
	// (/tmp, /home/user, /dev/shm, and /workspace without Config.Workspace: one
	// tmpfs, so it is memory of the host), and the size of any one file
	// (RLIMIT_FSIZE), also in Config.Workspace, which has no other bound.
	// Default 512 MiB.
	Disk int64
	// Files is the number of open files of each process (RLIMIT_NOFILE). Default 1024.
	Files int
	// Output is the number of bytes of stdout, and of stderr, that Result keeps.
	// What is beyond is read and dropped: the command does not notice, unless
	// Config.StopAtOutput. Default 1 MiB.
	Output int64
}

// The defaults of [Limits].
const (
	DefaultWall   = 60 * time.Second
	DefaultCPU    = 60 * time.Second
	DefaultMemory = 2 << 30
	DefaultPids   = 256
	DefaultDisk   = 512 << 20
	DefaultFiles  = 1024
	DefaultOutput = 1 << 20
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
	} {
		if f.bad {
			return l, &ErrConfig{"Limits." + f.name, "negative; 0 gives the default"}
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
