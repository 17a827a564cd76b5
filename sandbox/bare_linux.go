package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp"
	"golang.org/x/sys/unix"
)

// A bare sandbox has no namespaces: see LevelLandlock.

const (
	// leastABI of Landlock has scopes: without them a command of the caller's uid
	// could kill the caller.
	leastABI = 6
	// bareTasks are the helper's own two processes.
	bareTasks = 2
)

// bare turns a request into one for a sandbox without namespaces, whose private
// directory it makes.
func (c *Config) bare(r *proto.Request, session bool) (private string, err error) {
	if err := c.checkBare(session); err != nil {
		return "", err
	}
	tree, err := c.tree()
	if err != nil {
		return "", err
	}
	uid, gid, err := bareIdentity(tree.Workspace, r.SpareUID)
	if err != nil {
		return "", err
	}
	private, err = makePrivate(uid, gid)
	if err != nil {
		return "", &ErrSetup{"make a private directory", os.TempDir(), err}
	}
	places := map[string]string{
		"/workspace": tree.Workspace, "/home/user": filepath.Join(private, "home"), "/tmp": filepath.Join(private, "tmp"),
	}
	if tree.Workspace == "" {
		places["/workspace"] = filepath.Join(private, "workspace")
	}
	r.Mode, r.Filter = proto.BuildBare, seccomp.FilterLandlock()
	r.SpareUID, r.SpareGID = uid, gid
	r.Ops = bareOps(tree, private)
	r.Dir = outsidePath(r.Dir, places)
	r.Env = c.bareEnvironment(r.Env, places)
	r.MaxTasks += bareTasks - initTasks
	for i := range r.Limits {
		if r.Limits[i].Resource == unix.RLIMIT_NPROC { // counted for all that the user runs
			r.Limits[i].Value += tasksOf(uid) + bareTasks
		}
	}
	return private, nil
}

// checkBare refuses what cannot be had without namespaces, instead of leaving it out.
func (c *Config) checkBare(session bool) error {
	what := ""
	switch {
	case session:
		what = "a session has a terminal of its own"
	case c.Root != "":
		what = "Root is another file tree"
	case c.Net != NetNone:
		what = "Net is a network of its own"
	case len(c.Devices) > 0:
		what = "Devices are mounted"
	case c.Overlay != nil:
		what = "Overlay is a mount"
	case len(c.Protect) > 0:
		what = "Protect is a mount"
	}
	for i, b := range c.Binds {
		if source, err := filepath.EvalSymlinks(b.Source); err == nil && source != b.Target {
			what = fmt.Sprintf("Binds[%d] has another path inside", i)
		}
	}
	const remedy = "allow user namespaces on this host ('lm-sandbox doctor' says how), or do without it"
	if what != "" {
		return &ErrLevel{Want: LevelNamespaces, Have: LevelLandlock, Reason: what, Remedy: remedy}
	}
	if abi := landlockABI(); abi < leastABI {
		return &ErrLevel{Want: LevelLandlock, Reason: fmt.Sprintf("Landlock has ABI %d here, and %d is needed", abi, leastABI),
			Remedy: "use Linux 6.12 or later with landlock in its list of security modules, or allow user namespaces"}
	}
	return nil
}

// landlockABI is 0 where there is none.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// bareIdentity is who the command is on the host: of a root caller never root.
func bareIdentity(workspace string, spare uint32) (uid, gid uint32, err error) {
	if os.Geteuid() != 0 {
		return uint32(os.Getuid()), uint32(os.Getgid()), nil
	}
	if workspace == "" {
		return spare, spare, nil
	}
	st, err := os.Stat(workspace)
	if err != nil {
		return 0, 0, &ErrConfig{"Workspace", reason(err)}
	}
	owner := st.Sys().(*syscall.Stat_t).Uid
	if owner == 0 || owner == overflowID {
		return 0, 0, &ErrOwner{Path: workspace, Err: unix.EPERM, Remedy: "give it to an unprivileged user: without namespaces it cannot be mapped"}
	}
	return owner, spare, nil
}

// makePrivate makes a directory with those that the command may write to. It stays the
// caller's itself: others of the command's uid could move it away.
func makePrivate(uid, gid uint32) (string, error) {
	dir, err := os.MkdirTemp("", "lm-sandbox-")
	if err != nil {
		return "", err
	}
	dir, err = filepath.EvalSymlinks(dir)
	for _, name := range []string{"home", "tmp", "workspace"} {
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.Mkdir(path, 0o700)
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(path, int(uid), int(gid))
		}
	}
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

// removePrivate removes what nobody uses any more.
func (p *process) removePrivate() {
	if p.private == "" {
		return
	}
	root, err := os.OpenRoot(filepath.Dir(p.private))
	if err != nil {
		return
	}
	defer root.Close()
	_ = removeTree(root, filepath.Base(p.private))
}

// bareOps are the host's paths that may be used.
func bareOps(tree rootfs.Tree, private string) []proto.Op {
	ops := rootfs.Shown()
	add := func(path string, flags proto.OpFlag) {
		ops = append(ops, proto.Op{Kind: proto.OpBind, Path: strings.TrimPrefix(path, "/"), Flags: flags})
	}
	for _, name := range []string{"home", "tmp", "workspace"} {
		add(filepath.Join(private, name), 0)
	}
	if tree.Workspace != "" {
		add(tree.Workspace, 0)
	}
	for _, b := range tree.Binds {
		if b.Writable {
			add(b.Source, 0)
		} else {
			add(b.Source, proto.BindReadOnly)
		}
	}
	return ops
}

// outsidePath is where a path of the sandbox is.
func outsidePath(path string, places map[string]string) string {
	for inside, outside := range places {
		if within(path, inside) {
			return outside + strings.TrimPrefix(path, inside)
		}
	}
	return path
}

// bareEnvironment names the private places, unless c does.
func (c *Config) bareEnvironment(env []string, places map[string]string) []string {
	env = slices.Clone(env)
	for name, path := range map[string]string{"HOME": places["/home/user"], "TMPDIR": places["/tmp"]} {
		if _, ok := c.Env[name]; ok {
			continue
		}
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		env = append(env, name+"="+path)
	}
	slices.Sort(env)
	return env
}

// tasksOf counts the processes and threads that a user has now (proc_pid_status(5)).
func tasksOf(uid uint32) uint64 {
	files, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is good
	var n uint64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		var owner, threads uint64
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			switch fields[0] {
			case "Uid:":
				owner, err = strconv.ParseUint(fields[1], 10, 32)
			case "Threads:":
				threads, _ = strconv.ParseUint(fields[1], 10, 32)
			}
		}
		if err == nil && owner == uint64(uid) {
			n += threads
		}
	}
	return n
}
