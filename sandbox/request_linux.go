package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp"
	"golang.org/x/sys/unix"
)

const (
	insideID = 1000
	// The number of files on the sandbox's tmpfs: one for each page of Disk.
	bytesPerInode        = 4096
	minInodes, maxInodes = 1 << 10, 1 << 17
	// initTasks is pid 1, which counts in RLIMIT_NPROC too.
	initTasks = 1
	// reserve is for the skeleton of the root, which shares the tmpfs.
	reserve = 1 << 20
)

// request validates c and translates it for the helper.
func (c *Config) request(path string, argv []string) (*proto.Request, Limits, error) {
	build, limits, err := c.build()
	if err != nil {
		return nil, limits, err
	}
	run, err := c.run(limits, path, argv)
	return &proto.Request{Build: build, Run: run}, limits, err
}

// build is what does not depend on the command.
func (c *Config) build() (proto.Build, Limits, error) {
	var none proto.Build
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return none, limits, err
	}
	if err := c.checkFeatures(); err != nil {
		return none, limits, err
	}
	if err := c.checkBinds(); err != nil {
		return none, limits, err
	}
	if err := c.checkDevices(); err != nil {
		return none, limits, err
	}
	network, err := c.network()
	if err != nil {
		return none, limits, err
	}
	tree, err := c.tree()
	if err != nil {
		return none, limits, err
	}
	if err := c.checkAudit(tree); err != nil {
		return none, limits, err
	}
	if network == proto.NetworkHost {
		if tree.Etc, err = hostResolver(); err != nil {
			return none, limits, err
		}
	}
	ops, err := tree.Plan()
	if err != nil {
		return none, limits, &ErrConfig{"Root", err.Error()}
	}
	if len(ops) > proto.MaxOps {
		return none, limits, &ErrConfig{"Binds", fmt.Sprintf("with the root's entries %d steps of mounting, more than %d", len(ops), proto.MaxOps)}
	}
	spare, err := spareID()
	if err != nil {
		return none, limits, err
	}
	return proto.Build{
		UID: insideID, GID: insideID, SpareUID: spare, SpareGID: spare, Network: network,
		Hostname: rootfs.Hostname,
		// The kernel reads a plain number of bytes; it rounds up to pages.
		TmpfsSize: strconv.FormatInt(addSaturated(limits.Disk, reserve), 10), TmpfsInodes: strconv.FormatInt(min(max(limits.Disk/bytesPerInode, minInodes), maxInodes), 10),
		Ops: ops, Filter: seccomp.Filter(),
	}, limits, nil
}

func (c *Config) run(limits Limits, path string, argv []string) (proto.Run, error) {
	env, err := c.environment()
	if err != nil {
		return proto.Run{}, err
	}
	dir, err := c.dir()
	if err != nil {
		return proto.Run{}, err
	}
	r := proto.Run{
		Limits:    limits.resources(),
		MaxMemory: uint64(limits.Memory), MaxCPU: limits.treeCPU(), MaxTasks: uint32(limits.Pids) + initTasks, MaxFiles: uint32(limits.Files),
		Path: path, Dir: dir, Argv: argv, Env: env,
	}
	if c.Stdin == nil {
		r.Flags |= proto.FlagNullStdin
	}
	return r, nil
}

func addSaturated(a, b int64) int64 {
	if s := a + b; s > a {
		return s
	}
	return a
}

// resources are the limits that the kernel keeps for each process.
func (l Limits) resources() []proto.Limit {
	return []proto.Limit{
		{Resource: unix.RLIMIT_CPU, Value: l.cpuSeconds()},
		{Resource: unix.RLIMIT_DATA, Value: 2 * uint64(l.Memory)},
		{Resource: unix.RLIMIT_NPROC, Value: uint64(l.Pids) + initTasks},
		{Resource: unix.RLIMIT_NOFILE, Value: uint64(l.Files)},
		{Resource: unix.RLIMIT_FSIZE, Value: uint64(l.Disk)},
		// 1 also keeps a host's core handler, which is root's, from being started; 0 does not.
		{Resource: unix.RLIMIT_CORE, Value: 1},
		{Resource: unix.RLIMIT_MEMLOCK, Value: 64 << 10},
		{Resource: unix.RLIMIT_MSGQUEUE, Value: 64 << 10},
		{Resource: unix.RLIMIT_SIGPENDING, Value: 1024},
		{Resource: unix.RLIMIT_NICE, Value: 0},
		{Resource: unix.RLIMIT_RTPRIO, Value: 0},
	}
}

// tree checks the host paths of c.
func (c *Config) tree() (rootfs.Tree, error) {
	t := rootfs.Tree{Devices: c.Devices}
	var err error
	if t.Root, err = hostDir("Root", c.Root); err != nil {
		return t, err
	}
	if t.Root == "/" {
		return t, &ErrConfig{"Root", `"/" is all of the host; leave it empty for the host's programs`}
	}
	if err := refuseKernelMounts("Root", t.Root, rootfs.Withheld...); err != nil {
		return t, err
	}
	if t.Workspace, err = c.workspace(); err != nil {
		return t, err
	}
	if o := c.Overlay; o != nil {
		if c.Workspace != "" {
			return t, &ErrConfig{"Overlay", "there is a Workspace too; the overlay is one"}
		}
		t.Workspace, t.Changes = o.impl.baseDir, o.impl.data()
	}
	if t.Protect, err = c.mountsOf(t.Workspace); err != nil {
		return t, err
	}
	for i, b := range c.Binds {
		field := fmt.Sprintf("Binds[%d].Source", i)
		source, err := filepath.EvalSymlinks(b.Source)
		if err != nil {
			return t, &ErrConfig{field, reason(err)}
		}
		st, err := os.Stat(source)
		if err != nil {
			return t, &ErrConfig{field, reason(err)}
		}
		if within(source, "/proc") || within("/proc", source) {
			return t, &ErrConfig{field, fmt.Sprintf("%.64q shows the host's processes", source)}
		}
		if err := refuseKernelMounts(field, source); err != nil {
			return t, err
		}
		if b.Writable {
			if err := refuseSystem(field, source); err != nil {
				return t, err
			}
		}
		t.Binds = append(t.Binds, rootfs.Bind{Source: source, Target: b.Target, Writable: b.Writable, File: !st.IsDir()})
	}
	return t, nil
}

// workspace checks the host's directory.
func (c *Config) workspace() (string, error) { return lentDir("Workspace", c.Workspace) }

// lentDir resolves a directory that sandboxes may write to.
func lentDir(field, name string) (string, error) {
	dir, err := hostDir(field, name)
	if err == nil {
		err = refuseSystem(field, dir)
	}
	if err == nil {
		err = refuseKernelMounts(field, dir)
	}
	return dir, err
}

// hostDir resolves a directory of the host; "" stays "".
func hostDir(field, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", &ErrConfig{field, reason(err)}
	}
	abs, err = filepath.EvalSymlinks(abs)
	if err != nil {
		return "", &ErrConfig{field, reason(err)}
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", &ErrConfig{field, reason(err)}
	}
	if !st.IsDir() {
		return "", &ErrConfig{field, "not a directory"}
	}
	return abs, nil
}
