package sandbox

import (
	"io"
	"log/slog"
)

// Config is all that a sandbox is made from: plain data, which may be copied
// and used again. Its zero value is the strictest sandbox.
type Config struct {
	// Root is the directory of an unpacked root tree, used read-only; "" is the
	// host's system directories (/usr, /bin, /lib…) and some files of its /etc.
	Root string
	// Workspace is a host directory, mounted read-write at /workspace; "" is an
	// empty one that dies with the sandbox. Nothing in it is chowned or
	// chmodded. Directories of the system (/, /usr, /etc, /proc, /run, /var/lib…), those of
	// many owners (/tmp, /home…) and those with a /proc, /sys or the like of the
	// host below are refused. Other mounts below it come along.
	Workspace string
	// Overlay is a workspace whose changes are kept apart, instead of Workspace.
	// Of the sandboxes that use it one runs at a time; another gets ErrBusy.
	Overlay *Overlay
	// Protect names paths below the workspace, at most 64, that commands cannot change:
	// for example [DefaultProtect]. What is there when the sandbox starts is read-only, and
	// the directories above it cannot be moved. What is not there can be made all the same,
	// as a mount needs something to be mounted on, and a symbolic link can be replaced.
	// A file with a second name (a hard link) can be written by that; and what the host
	// itself replaces meanwhile (git config, editors) is held no more.
	// Result.ProtectViolations tells all of that, and Commit of an Overlay refuses it.
	// What another sandbox without Protect does is not held up.
	Protect []string
	// Binds are further host paths, read-only unless said otherwise.
	Binds []Bind
	// Env is added to the sandbox's own environment: PATH, HOME, USER, LOGNAME,
	// SHELL, LANG, TERM. Nothing of the caller's is passed on.
	Env map[string]string
	// Dir is the working directory inside, absolute and without links; "" is /workspace.
	Dir string
	// Stdin is the command's input; nil is empty. Run does not wait for a Read
	// that is under way when the command ends; one that fails ends the input
	// and is an ErrStream.
	Stdin io.Reader
	// Stdout and Stderr get the output as it comes, whole, beside what Result
	// keeps. A writer that blocks holds the command up; 2 s after the wall time
	// or ctx has ended Run returns ErrStream without it, and one goroutine stays
	// until it returns. One that fails is given no more (ErrStream); one that
	// panics ends this process. Both may be the same writer only if it can be
	// written from two goroutines.
	Stdout, Stderr io.Writer
	// Limits bounds what the command uses; zero fields have defaults.
	Limits Limits
	// StopAtOutput ends the command, with LimitOutput, once either stream is
	// longer than Limits.Output. Otherwise the rest is dropped.
	StopAtOutput bool
	// Net is the network; the zero value is none.
	Net Net
	// Allow is what [NetAllowList] allows.
	Allow AllowList
	// Devices are nodes of GPUs of the host, as GPUDevices lists them, at the same
	// paths inside; none by default. With any, parts of /sys (processors, memory nodes,
	// GPUs) and /proc/driver are visible too, read-only. Other devices than NVIDIA's,
	// render nodes of DRM and AMD's kfd are an ErrConfig; one that is absent, or that
	// the user behind the sandbox may not open, is an ErrDevice. A GPU's memory is in
	// no limit, a bug of its driver is a way out, and what others left in its memory
	// is the driver's to clear.
	Devices []string
	// MinLevel is the weakest isolation that is acceptable; 0 is LevelNamespaces.
	// With LevelLandlock the strongest that this host allows is used, as a probe
	// has found it: Result.Level says which. Where it cannot be had: ErrLevel.
	MinLevel Level
	// Audit gets one record of each run, of each command of a session and of each
	// session, refused ones included, when it has ended: who, which command, under
	// which policy and limits, how it ended, what it used (docs/audit.md). Values of
	// Env, input and output are not in it. Handle is called in the goroutine of the
	// caller that waits, whatever Enabled says; its error is an ErrAudit. nil is no
	// record. See OpenAuditFile.
	Audit slog.Handler
	// HelperPath is the sandbox helper installed at a path of its own, for hosts
	// whose AppArmor policy names the programs that may make user namespaces;
	// "" is DefaultHelperPath on such a host, if it is there, and else runs the
	// embedded one from memory. It must be of this release, byte for byte:
	// InstallHelper.
	HelperPath string
}

// Bind makes a path of the host visible.
type Bind struct {
	Source   string // a file or directory of the host, absolute
	Target   string // an absolute path inside, outside of /workspace, /proc, /dev and the system directories
	Writable bool
}
