// Package sandbox runs bash, and other programs, that a model has written: in
// Linux namespaces, without root and without a container engine.
//
//	r, err := sandbox.Run(ctx, sandbox.Config{Workspace: "/srv/job"}, "make test")
//
// The error says that the command could not be run. A command that fails, that
// is killed or that exceeds a limit is a [Result]: its exit code, signal,
// output and the limit it ran into.
//
// # What a command sees
//
// It is uid 1000, named user, on a host named sandbox. It has
//   - /usr, /bin, /lib… of the host (or of [Config.Root]) and the few files of
//     /etc that programs need, read-only;
//   - a passwd, group, hosts file of its own; a /proc of its own, in which
//     settings are read-only and what tells about the host is hidden; a /dev with
//     null, zero, full, random, urandom, tty, pts, shm;
//   - /tmp, /home/user, /dev/shm, on a tmpfs that dies with it;
//   - /workspace, which is [Config.Workspace] or dies too: its working directory;
//   - what [Config.Binds] adds;
//   - a loopback interface and no other network, or what [Config.Net] gives
//     (docs/network.md);
//   - clocks that start with it, no environment of the caller's, no open file
//     but its three streams, no terminal.
//
// Everything else of the host is not there.
//
// # How it ends
//
// [Run] returns when the last process is gone. Whatever the command has put
// into the background, in sessions of its own or deaf to signals, is killed
// when the command itself ends, when a limit of [Limits] is reached, when the
// context ends, and when the calling process dies, even by SIGKILL. There is no
// grace: the kernel kills the pid namespace.
//
// # How it is made
//
// A static helper of 70 kB, embedded in this package and written in C, is
// executed by plain os/exec from a sealed file in memory; the Go process itself
// never forks, so that its size does not matter (a clone of a user namespace
// from Go copies the page tables of a loaded model). The helper closes every
// inherited file, drops root, makes eight namespaces, builds a root on tmpfs,
// enters it and stays as pid 1. The command then starts with no capability in
// any set, no_new_privs, rlimits and a system call filter.
//
// # Sessions
//
// A [Session] is a sandbox with one bash that lives across commands, on a terminal
// of its own. docs/session.md says what is guaranteed and what is not.
//
// # Who it is on the host
//
// Never root and never nobody. The helper itself is root, for a root caller,
// until it has opened what is lent, before it makes the sandbox. For an
// unprivileged caller it is the caller; its supplementary groups cannot be dropped. For a root caller it is the owner
// of the workspace, or, where that is root, a uid of its own (1900000000), to
// which the workspace is lent by an idmapped mount: files that the command makes
// belong to the workspace's owner. Nothing is ever chowned or chmodded.
// Set-user-id and set-group-id bits cannot be set.
//
// # What is not protected
//
//   - A bug of the kernel behind a call that is allowed is a way out. Namespaces
//     are no virtual machine.
//   - What the command writes to the workspace is the caller's to distrust:
//     links that lead elsewhere on the host, hooks, Makefiles, files of any size
//     and number (unless Limits.Workspace and WorkspaceFiles bound them).
//   - Limits are kept by a control group where the caller may make one, and
//     otherwise by rlimits and by pid 1, which samples: between two samples a tree
//     can exceed them. docs/limits.md says which is which. Disk bandwidth and the
//     share of the processors are bounded in a control group only, on request.
//   - A set-user-id file that is in the workspace already can be rewritten by a
//     shared mapping, which keeps the bit: lend no workspace with such files.
//   - Where a root caller's workspace belongs to a user, that user of the host can
//     reach what is mounted in the sandbox by /proc/PID/root, private binds
//     of root included.
//   - Counts that the kernel keeps for each user of the host are shared by all
//     sandboxes of that user: pages of pipes above all. A flock on a read-only
//     bind holds up the host's; inotify on /usr shows what the host opens.
//   - The host's kernel version, boot id, its amount of memory and load, the names and
//     versions of installed programs, and where on the host the workspace and
//     the binds are (/proc/self/mountinfo) and who the sandbox is there
//     (/proc/self/uid_map) can be read.
//   - Sockets and devices inside directories that the caller binds are reachable.
//   - 32-bit programs are killed, debuggers (ptrace) do not work, nor do nested
//     containers.
//   - Output is bytes as the command wrote them, escape sequences included: do
//     not print it to a terminal.
//
// # Hosts that refuse
//
// [Probe] says what a host allows. Where user namespaces are refused, [Run]
// returns [ErrLevel], whose Remedy names the setting, and never falls back to
// something weaker by itself: [LevelLandlock] must be asked for by Config.MinLevel.
//
// Linux 5.15 or later on amd64 and arm64; elsewhere every function returns
// [ErrUnsupported].
package sandbox
