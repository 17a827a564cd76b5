package sandbox

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// lacks are the lines of Result.Lacks, in the order of the helper's bits.
var lacks = []struct {
	bit  proto.Lack
	line string
}{
	{proto.LackLandlock, "landlock: files are guarded by mounts alone, and the tree may signal the sandbox's pid 1"},
	{proto.LackTruncate, "landlock truncate: what is read-only is kept from truncation by mounts alone"},
	{proto.LackIoctl, "landlock ioctl: requests to the sandbox's device nodes are bounded by the system call filter alone"},
	{proto.LackScopes, "landlock scopes: the tree may signal the sandbox's pid 1"},
	{proto.LackProc, "proc: there is no /proc, so ps and /dev/fd do not work, and without a control group memory is bounded for each process only; " +
		"a container that hides parts of its own refuses another (docker: --security-opt systempaths=unconfined)"},
	{proto.LackTime, "time namespace: the host's uptime can be seen"},
}

// groupLack is what LevelNamespaces has less than LevelCgroup.
const groupLack = "control group: memory, processor time and processes are bounded by rlimits of each process and by samples that pid 1 takes; " +
	"rates of processor time and I/O are not"

// bareLacks is what LevelLandlock has less than LevelNamespaces.
var bareLacks = []string{
	"mount namespace: paths are the host's, the workspace's too; of what may not be read the name, size, owner and times can be asked for",
	"pid namespace: the numbers of the host's processes can be seen, nothing else of them",
	"network namespace: no socket can be made, so there is no loopback either",
	"other namespaces: the host's name and uptime can be seen",
	"disk: each file is bounded, all together are not; /dev/shm cannot be written",
	"system calls: modes, owners and times are not changed by path, so a linker cannot make its output executable; " +
		"of what the command's uid owns they can be changed once it is open, also where a bind is read-only",
}

func lacking(level Level, set proto.Lack) []string {
	var out []string
	if level == LevelLandlock {
		out = append(out, bareLacks...)
		if os.Geteuid() != 0 {
			out = append(out, "user namespace: the command has the caller's uid and groups")
		} else {
			out = append(out, "user namespace: sandboxes of one root caller share a uid; Landlock keeps their processes apart")
		}
	}
	for _, l := range lacks {
		if set&l.bit != 0 {
			out = append(out, l.line)
		}
	}
	return out
}

// probeAgain is how long a host is believed to refuse a level: it may be changed.
const probeAgain = 30 * time.Second

// ladder remembers which levels this host allows, as found by running a command at each.
type ladder struct {
	sync.Mutex
	rungs map[rung]verdict
}

type rung struct {
	level  Level
	helper string // Config.HelperPath
}

// verdict is of good for the life of this process where err is nil.
type verdict struct {
	err  error
	when time.Time
}

var host = ladder{rungs: map[rung]verdict{}}

// try says why a level cannot be had, or nil. What is no refusal, such as a lack of
// memory now, is not remembered.
func (l *ladder) try(ctx context.Context, at rung) error {
	l.Lock()
	v, known := l.rungs[at]
	l.Unlock()
	if known && (v.err == nil || time.Since(v.when) < probeAgain) {
		return v.err
	}
	err := tryLevel(ctx, at)
	if err == nil || refusedLevel(err) {
		l.Lock()
		l.rungs[at] = verdict{err, time.Now()}
		l.Unlock()
	}
	return err
}

// tryLevel runs a command that every host has, or finds at the very end that it is absent.
func tryLevel(ctx context.Context, at rung) error {
	p, err := executeAt(ctx, Config{HelperPath: at.helper, MinLevel: at.level, Limits: Limits{Wall: 10 * time.Second}}, at.level, "/bin/true", []string{"true"}, false)
	if err == nil {
		_, err = p.wait()
	}
	if absent := (*ErrExec)(nil); errors.As(err, &absent) {
		return nil
	}
	return err
}

func refusedLevel(err error) bool {
	var namespace *ErrUserNamespace
	var level *ErrLevel
	return errors.As(err, &namespace) || errors.As(err, &level)
}

// chooseLevel is LevelNamespaces unless c accepts less and the host has less.
func (c *Config) chooseLevel(ctx context.Context) (Level, error) {
	if c.MinLevel != LevelLandlock {
		return LevelNamespaces, nil
	}
	err := host.try(ctx, rung{LevelNamespaces, c.HelperPath})
	switch {
	case err == nil:
		return LevelNamespaces, nil
	case refusedLevel(err):
		return LevelLandlock, nil
	}
	return 0, err
}

// explainLevel says of a host that refuses namespaces what it has instead.
func (c *Config) explainLevel(ctx context.Context, err error) error {
	var refused *ErrUserNamespace
	var level *ErrLevel
	if !errors.As(err, &refused) || errors.As(err, &level) {
		return err
	}
	e := &ErrLevel{Want: max(c.MinLevel, LevelNamespaces), Reason: "user namespaces are refused: " + refused.Reason, Remedy: refused.Remedy, Err: err}
	if c.MinLevel == LevelLandlock {
		e.Want = LevelLandlock
		return e
	}
	if host.try(ctx, rung{LevelLandlock, c.HelperPath}) == nil {
		e.Have = LevelLandlock
		e.Remedy += "; or accept what it has by Config.MinLevel: LevelLandlock"
	}
	return e
}
