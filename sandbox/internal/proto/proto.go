// Package proto is the protocol between the Go process and the sandbox helper.
//
//	Go process                     launcher            init (pid 1)       payload
//	    │  os/exec, socketpair fd 3    │
//	    ├─ BUILD ─────────────────────►│ drops root
//	    │                              ├─ clone3 ──────────►│ builds the root
//	    │◄─ READY ──────────────────────────────────────────┤ (in a pool only)
//	    ├─ RUN (with BUILD, or later) ─────────────────────►│ finishes and enters it
//	    │                              │                    ├─ clone3 ─────────►│
//	    │◄─ ERROR ─────────────────────┴─ or ───────────────┴─ or ──────────────┤ (then all exit)
//	    │◄─ STARTED ────────────────────────────────────────┤      execve ◄──────┤
//	    ├─ SIGNAL ─────────────────────────────────────────►├─ kill ────────────►│
//	    ├─ an order: STREAMS (a session), OPEN, DIAL ──────►│
//	    │◄─ REPLY ──────────────────────────────────────────┤ one to each, in order
//	    │◄─ EXIT ───────────────────────────────────────────┤◄─ wait status ─────┘
//	    │                              │◄─ exit: the kernel ends the pid namespace
//	    │◄─ end of the process ────────┤
//
// A shut or closed socket at the Go side ends the tree at any point. Every
// frame is two little-endian words, kind and length of the body, then the
// body. Within a body integers are little-endian; bytes are a 32-bit length,
// the content and a NUL that the length does not count, so that the helper can
// use them in place.
//
//	+--------+--------+----------------------
//	| kind   | length | body
//	+--------+--------+----------------------
//	  BUILD    version mode uid gid spareUID spareGID network hostname tmpfsSize tmpfsInodes n{op} filter
//	           n{file to enter a control group} n{hit limit64 path key}
//	  RUN      flags n{op} n{resource value64} memory64 cpu64(ms) tasks files path dir n{argv} n{env}
//	           where op is: kind flags mode path source; the files of its BindTree and BindSame come along
//	  IDMAP    uid gid toUid toGid; instead of BUILD: answered by REPLY with a user namespace
//	  SIGNAL   number target
//	  STREAMS  name (32 bytes, the rest of the body); the files of its REPLY are the
//	           read and the write end of stdout, and of stderr
//	  OPEN     flags mode path(rest of the body); the REPLY brings the file
//	  DIAL     family port address(rest of the body); the REPLY brings the socket, which
//	           connects; the address is that of the family, or of AF_UNIX the name
//	  ERROR    stage errno detail(rest of the body)
//	  STARTED  set of the files that come with it, in the order of their bits; set of what is lacking
//	  READY    uid gid: who the sandbox of a pool is on the host
//	  REPLY    errno n, with n files
//	  EXIT     waitStatus limitsHit user64(µs) system64(µs) read64 written64 memory64 tasks64
package proto

// Version is checked by the helper, so that an installed helper of another
// release is refused by name instead of misread.
const Version = 3

// MaxPath bounds the path of an order; an order's body is at most MAX_ORDER in helper.h.
const MaxPath = 4096

// MaxOps bounds Build.Ops and Run.Late together; as MAX_OPS in helper.h.
const MaxOps = 1024

// Kind says what a frame is.
type Kind uint32

// Frame kinds; the helper's are from 16 on.
const (
	KindBuild   Kind = 1
	KindRun     Kind = 2
	KindSignal  Kind = 3
	KindStreams Kind = 4
	KindOpen    Kind = 5
	KindDial    Kind = 6
	KindIDMap   Kind = 8
	KindError   Kind = 16
	KindStarted Kind = 17
	KindExit    Kind = 18
	KindReply   Kind = 19
	KindReady   Kind = 20
)

// Stage says what the helper was doing when it failed.
type Stage uint32

// Stages, in the order of enum stage in helper.h.
const (
	StageRequest Stage = iota + 1
	StageDrop
	StageIDMap
	StageClone
	StageMap
	StageNetwork
	StageRoot
	StageMount
	StageProc
	StagePivot
	StagePrivilege
	StageDir
	StageLimits
	StageSeccomp
	StageExec
	StageTerminal
	StageLandlock
	StageCgroup
	StageOverlay
	StageLend // the only one after which the command may have run
)

var stageNames = [...]string{
	StageRequest: "read the request", StageDrop: "drop root", StageIDMap: "map the owner of a directory",
	StageClone: "make namespaces", StageMap: "map the user", StageNetwork: "set up the network",
	StageRoot: "build the root", StageMount: "mount", StageProc: "mount /proc", StagePivot: "enter the root",
	StagePrivilege: "remove privileges", StageDir: "enter the working directory", StageLimits: "set limits",
	StageSeccomp: "load the system call filter", StageExec: "execute",
	StageTerminal: "open a terminal", StageLandlock: "restrict with Landlock",
	StageCgroup:  "enter the control group",
	StageOverlay: "mount the overlay", StageLend: "hand over open files",
}

func (s Stage) String() string {
	if int(s) < len(stageNames) && stageNames[s] != "" {
		return stageNames[s]
	}
	return "unknown stage"
}

// OpKind is one step of building the root.
type OpKind uint32

// Steps, as enum op_kind in helper.h.
const (
	OpDir OpKind = iota + 1
	OpFile
	OpLink
	OpBind
	OpProc
	OpPts
	OpOverlay // of the two trees that are below OverlayDir by then
)

// OpFlag refines a bind; as enum op_flag in helper.h.
type OpFlag uint32

// Flags of OpBind.
const (
	BindReadOnly OpFlag = 1 << iota
	BindOptional        // a missing source or mount point is no error
	BindDevice          // device nodes work on this mount
	BindOwner           // a root caller runs as the owner of this directory
	BindInside          // Source is a path in the new root
	BindExisting        // the mount point must be there already
	BindFile            // the source is no directory
	BindTree            // of Run.Late: the mount itself comes as an open file
	BindSame            // of Run.Late: an open file comes that Source must still be
)

// Op is one step of building the root. Path is relative to the new root;
// Source is a host path, the content of a file or the target of a link.
type Op struct {
	Kind   OpKind
	Flags  OpFlag
	Mode   uint32
	Path   string
	Source string
}

// Limit is one resource limit, soft and hard alike.
type Limit struct {
	Resource uint32
	Value    uint64
}

// Modes of a Build.
const (
	// BuildPooled is a sandbox whose Run comes later: READY says when it can.
	BuildPooled uint32 = 1
	// BuildBare is a sandbox without namespaces: the paths of Ops, which are all of OpBind, are
	// the host's, and Landlock alone says what may be read and written.
	BuildBare uint32 = 2
)

// Flags of a Run.
const (
	// FlagNullStdin gives the payload the sandbox's own /dev/null as its input.
	FlagNullStdin uint32 = 1 << iota
	// FlagSession makes the payload the shell of a session: its streams are a
	// terminal of the sandbox, and it has one end of a socket. STARTED brings
	// FileTerminal and FileSide.
	FlagSession
)

// What a session's shell finds inside; as SESSION_FD, SESSION_DIR in helper.h.
const (
	SessionFD  = 253
	SessionDir = "/run/session"
	OverlayDir = "run/overlay"
	StreamName = 32 // bytes of the name of a pair of pipes
)

// Target says whom a signal is for; as enum signal_target in helper.h.
type Target uint32

// Targets. All but the first need a session.
const (
	TargetPayload    Target = iota
	TargetForeground        // the foreground process group of the terminal
	TargetCommand           // the same, unless it is the shell's own
	TargetAgain             // of it, those that were there at the last one for it and do not handle the signal
)

// Network says what network a sandbox has; as enum network in helper.h.
type Network uint32

// Networks.
const (
	NetworkOwn   Network = iota // a namespace with a loopback
	NetworkProxy                // the same; STARTED brings FileHTTP and FileSOCKS
	NetworkHost                 // the host's
)

// Build says what sandbox to make: all that does not depend on the command.
type Build struct {
	Mode               uint32 // BuildPooled, BuildBare or 0
	UID, GID           uint32
	SpareUID, SpareGID uint32
	Network            Network
	Hostname           string
	TmpfsSize          string
	TmpfsInodes        string
	Ops                []Op
	Filter             []byte
	// Enter are files of control groups to which the launcher writes "0".
	Enter  []string
	Gauges []Gauge
}

// Gauge is a file with a count of a control group. When the number behind Key
// reaches Limit, Hit has been hit. As MAX_GAUGES in helper.h there are four at most.
type Gauge struct {
	Hit       Hit
	Limit     uint64
	Path, Key string
}

// Run says what to run in it, and what is to be added to the root before.
type Run struct {
	Flags              uint32
	Late               []Op
	Limits             []Limit
	MaxMemory          uint64
	MaxCPU             uint64 // ms of all processes together, where no Gauge counts it
	MaxTasks, MaxFiles uint32
	Path, Dir          string
	Argv, Env          []string
}

// Request is all that the helper is told.
type Request struct {
	Build
	Run
}

// Failure is the body of an ERROR frame.
type Failure struct {
	Stage  Stage
	Errno  uint32
	Detail string
}

// Exit is the body of an EXIT frame. UserTime and SystemTime are microseconds
// of all processes of the tree that were waited for; Read and Written are bytes
// of theirs from and to disks. Memory and Tasks are the most that pid 1 saw.
type Exit struct {
	WaitStatus           uint32
	Hit                  Hit
	UserTime, SystemTime uint64
	Read, Written        uint64
	Memory, Tasks        uint64
}

// Hit is the set of limits that pid 1 saw reached.
type Hit uint32

// Limits that pid 1 watches; as enum limit_hit in helper.h.
const (
	HitMemory Hit = 1 << iota
	HitTasks
	HitFiles
	HitDisk
	HitCPU
)
