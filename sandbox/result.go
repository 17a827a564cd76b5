package sandbox

import "time"

// LimitKind names the limit that ended a command, or that it had run into when
// it failed; "" is none.
type LimitKind string

// The limits of [Limits] by name. Timeout, memory and output are certain. CPU and, of
// a file that is too long, disk are told by the signal or its exit code beside
// what was used; a command that sends itself SIGXFSZ is told as disk. Pids, disk and files only make calls fail, which the
// command may survive: they are reported of a command that failed, when pid 1
// found them exhausted (pids and files by sampling, files from Linux 6.2).
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
	Limit                            LimitKind
	// Level is how strongly the command was isolated, and Lacks what this host
	// could not give to that level: each line is a name, a colon and what follows
	// from it. Most hosts lack nothing.
	Level Level
	Lacks []string
	// Duration is from the call of Run or Start to the end that Run or Wait saw.
	Duration time.Duration
	// CPU is the processor time of the processes that were waited for.
	CPU time.Duration
}
