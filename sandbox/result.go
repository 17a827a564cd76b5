package sandbox

import "time"

// LimitKind names the limit that ended a command, or that it had run into when
// it failed; "" is none.
type LimitKind string

// The limits of [Limits] by name. Timeout, memory, output, the processor time of
// all processes together and the growth of a workspace end the command and are
// certain; memory includes every process that the kernel killed for want of it in
// the control group. The processor time of one process and, of a file that is too
// long, disk are told by the signal or its exit code beside what was used; a command
// that sends itself SIGXFSZ is told as disk. Pids, disk and files only make calls
// fail, which the command may survive: they are reported of a command that failed,
// when they were found exhausted (pids by the control group or by sampling, files by
// sampling, from Linux 6.2).
const (
	LimitNone    LimitKind = ""
	LimitTimeout LimitKind = "timeout"
	LimitCPU     LimitKind = "cpu"
	LimitMemory  LimitKind = "memory"
	LimitPids    LimitKind = "pids"
	LimitDisk    LimitKind = "disk"
	LimitOutput  LimitKind = "output"
	LimitFiles   LimitKind = "files"
)

// Result is how a command ended.
type Result struct {
	// ExitCode is the command's own, or 128+n where signal n ended it.
	ExitCode int
	// Signal is "" or the name of the signal that ended the command: "SIGKILL".
	Signal string
	// Stdout and Stderr are the first Limits.Output bytes of each stream, as
	// they came: not text, not sanitised.
	Stdout, Stderr                   []byte
	StdoutTruncated, StderrTruncated bool
	// Limit is what ended the command, or what it ran into and failed, or LimitNone.
	Limit LimitKind
	// Level is how strongly the command was isolated, and Lacks what this host
	// could not give to that level, or Net was told to do without: each line is a name,
	// a colon and what follows from it. Most hosts lack nothing.
	Level Level
	Lacks []string
	// ProtectViolations are paths of Config.Protect that are not what they were before: they
	// did not exist, were links, or were changed past the protection, by the host too.
	// Nobody on the host should use them unseen.
	ProtectViolations []string
	// Duration is from the call of Run or Start to the end that Run or Wait saw.
	Duration time.Duration
	// Net is what was asked of the proxy of [NetAllowList], in that order, the first
	// [MaxNetRecords]; NetTruncated says that there was more.
	Net          []NetRecord
	NetTruncated bool
	// Usage is what the command used, as far as it is known.
	Usage Usage
}

// Usage is what all processes of a sandbox used together, its own pid 1 included;
// 0 is unknown. At LevelCgroup CPU, MemoryPeak and PidsPeak are the kernel's own
// counts (cpuacct.usage or cpu.stat, memory.max_usage_in_bytes or memory.peak,
// pids.peak). Below, CPU is that of the processes that were waited for
// (getrusage), and the peaks are the highest of pid 1's samples of /proc, which
// do not see what comes and goes between two of them.
type Usage struct {
	CPU time.Duration
	// MemoryPeak is bytes. A control group counts the page cache, tmpfs and the
	// kernel's own memory too; a sample counts anonymous and shared pages, once
	// for each process, and page tables.
	MemoryPeak int64
	PidsPeak   int64 // processes and threads
	// ReadBytes and WriteBytes are from and to disks, by the processes that were
	// waited for (getrusage): what is found in the page cache is not read, and what
	// is written into it counts although it may reach the disk later, or never.
	ReadBytes, WriteBytes int64
}
