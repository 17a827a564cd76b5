package sandbox

import "time"

// Limits bounds what one command may use. A zero field has the default; a
// negative one is an [ErrConfig].
type Limits struct {
	// Wall is the time from the call of Run or Start to the end. Then the whole
	// tree gets SIGKILL, with no grace: a command can ignore anything else.
	// Default 60 s.
	Wall time.Duration
	// CPU is processor time, whole seconds rounded up. A process that reaches it
	// gets SIGXCPU, and SIGKILL a second later (RLIMIT_CPU); when all processes
	// together are 200 ms above it the tree is killed. Without a control group
	// pid 1 adds them up every 100 ms, and misses children that their parent has
	// reaped by ignoring SIGCHLD. In a [Session] it is of each process only.
	// Default 60 s.
	CPU time.Duration
	// CPUs is the processors' worth of time that the tree may use at once, 0.5 or
	// 2 for example (cpu.max, cpu.cfs_quota_us); it is slowed down, not ended. 0
	// is all: in a control group the tree then has the weight of one ordinary
	// process against the rest of the caller's group. Needs LevelCgroup.
	CPUs float64
	// ReadRate and WriteRate are bytes a second from and to each disk of the host
	// (io.max, blkio.throttle); the tree is slowed down, not ended. cgroup v1 does
	// not slow down writes that go through the page cache. 0 is no bound. They
	// need LevelCgroup.
	ReadRate, WriteRate int64
	// Memory is bytes of all processes together; above it the tree is killed.
	// In a control group it is all that the kernel charges, and holds at any
	// moment: pages, files on the sandbox's tmpfs, page tables, pipes, sockets; the
	// page cache of the host's files gives way first. Without one it is anonymous
	// and shared memory and page tables, as pid 1 samples it every 20 to 100 ms.
	// Between two samples one process can reach twice the limit (RLIMIT_DATA, by which
	// programs that reserve far more, those with sanitizers, fail), several can reach more. What no process maps is not seen then: files on the
	// sandbox's tmpfs (they count in Disk), and what the kernel keeps for sockets,
	// pipes and other open files, hundreds of megabytes at the default Pids and
	// Files. memfds and System V objects cannot be made. When the host itself runs
	// out, its kernel prefers to kill the sandbox. Default 2 GiB.
	Memory int64
	// Pids is the number of processes and threads (RLIMIT_NPROC); more get EAGAIN.
	// Default 256.
	Pids int
	// Disk is bytes written to all places that die with the sandbox together
	// (/tmp, /home/user, /dev/shm, and /workspace without Config.Workspace: one
	// tmpfs, so it is memory of the host), and the size of any one file
	// (RLIMIT_FSIZE), also in Config.Workspace; see Workspace.
	// Default 512 MiB.
	Disk int64
	// Workspace and WorkspaceFiles are the bytes on disk and the files and
	// directories by which Config.Workspace, or what Config.Overlay keeps, may grow while
	// the command runs; more ends it as LimitDisk. It is measured before the start, which
	// takes seconds for 100,000 files that the host has not read lately, and then
	// sampled: what is written between two samples is there before the end. Files that
	// are open but deleted are not seen. 0 is no bound.
	Workspace, WorkspaceFiles int64
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
