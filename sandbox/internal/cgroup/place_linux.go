package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNone is a host where this process may not make groups.
var ErrNone = errors.New("no control groups")

// required are the controllers without which a group is not worth its name.
var required = []string{"memory", "pids", "cpu"}

// leaf is the group into which a process that has a v2 group for itself moves,
// because a group with controllers for others may hold no process.
const leaf = "lm-sandbox-caller"

// place is where groups are made.
type place struct {
	v1 map[string]string // the caller's own directory by controller
	v2 string            // or ""
}

var found struct {
	sync.Mutex
	place *place
	err   error
	until time.Time // of err
}

// errorLasts is how long a host that had no groups is taken to have none.
const errorLasts = 5 * time.Second

// find looks once: a process stays where it is.
func find() (*place, error) {
	found.Lock()
	defer found.Unlock()
	if found.place != nil {
		return found.place, nil
	}
	if found.err != nil && time.Now().Before(found.until) {
		return nil, found.err
	}
	if found.place, found.err = look(); found.err != nil {
		found.until = time.Now().Add(errorLasts)
		return nil, found.err
	}
	go found.place.sweep()
	return found.place, nil
}

func forget() {
	found.Lock()
	defer found.Unlock()
	found.place, found.err = nil, nil
}

// AtStart says that a process gets into its group by being started in it (v2),
// not by entering it later.
func AtStart() bool {
	p, err := find()
	return err == nil && p.v2 != ""
}

// Probe names the groups that this process can have, or says why it has none.
func Probe() (string, error) {
	p, err := find()
	if err != nil {
		return "", err
	}
	g, err := p.make(Limits{Memory: 1 << 30, Pids: 100, CPUs: 1})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNone, err)
	}
	g.Remove()
	if p.v2 != "" {
		return "v2 below " + p.v2, nil
	}
	return "v1 below " + p.v1["memory"], nil
}

func look() (*place, error) {
	paths, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	own := directories(string(paths), string(mounts))
	if dir := own[""]; dir != "" {
		dir, err := delegated(dir)
		if err == nil {
			return &place{v2: dir}, nil
		}
		if own["memory"] == "" {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
	}
	for _, c := range append([]string{"cpuacct"}, required...) {
		if own[c] == "" {
			return nil, fmt.Errorf("%w: the controller %s is not mounted", ErrNone, c)
		}
		if err := unix.Access(own[c], unix.W_OK); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrNone, own[c], err)
		}
	}
	return &place{v1: own}, nil
}

// directories are this process's own by controller; that of v2 has the name "".
func directories(paths, mounts string) map[string]string {
	own := map[string]string{}
	for line := range strings.Lines(paths) { // 4:memory:/path
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			if dir := mounted(mounts, c, f[2]); dir != "" {
				own[c] = dir
			}
		}
	}
	return own
}

// mounted is where a group of a controller is seen: a container may have a
// mount of a part of the hierarchy only.
func mounted(mounts, controller, path string) string {
	for line := range strings.Lines(mounts) { // 35 31 0:32 /root /mountpoint options… - type source superoptions
		head, tail, ok := strings.Cut(line, " - ")
		f, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 5 || len(t) < 3 {
			continue
		}
		if controller == "" && t[0] != "cgroup2" ||
			controller != "" && (t[0] != "cgroup" || !slices.Contains(strings.Split(t[2], ","), controller)) {
			continue
		}
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(f[3], "/"))
		if ok && !strings.HasPrefix(rest, "/..") && (rest == "" || rest[0] == '/') {
			return filepath.Join(f[4], rest)
		}
	}
	return ""
}

// delegated returns the directory below which groups with the controllers can
// be made. It turns them on where nothing stands against it.
func delegated(own string) (string, error) {
	if filepath.Base(own) == leaf {
		own = filepath.Dir(own)
	}
	if on(own, "cgroup.subtree_control") {
		return own, unix.Access(own, unix.W_OK)
	}
	if !on(own, "cgroup.controllers") {
		return "", fmt.Errorf("%s: the controllers %s are not delegated", own, strings.Join(required, ", "))
	}
	enable := func() error {
		_ = write(own, "cgroup.subtree_control", "+io") // not everywhere, and not needed
		return write(own, "cgroup.subtree_control", "+"+strings.Join(required, " +"))
	}
	err := enable()
	if errors.Is(err, unix.EBUSY) {
		if err = moveAway(own); err == nil {
			err = enable()
		}
	}
	if err != nil {
		return "", err
	}
	return own, nil
}

func on(dir, file string) bool {
	b, err := os.ReadFile(filepath.Join(dir, file))
	have := strings.Fields(string(b))
	return err == nil && !slices.ContainsFunc(required, func(c string) bool { return !slices.Contains(have, c) })
}

// moveAway makes room if this process is alone in its group, as in a container
// or a unit of systemd with Delegate=yes.
func moveAway(own string) error {
	b, err := os.ReadFile(filepath.Join(own, "cgroup.procs"))
	if err != nil {
		return err
	}
	pid := strconv.Itoa(os.Getpid())
	if strings.TrimSpace(string(b)) != pid {
		return fmt.Errorf("%s: other processes are in the group, which hinders turning its controllers on", own)
	}
	dir := filepath.Join(own, leaf)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return write(dir, "cgroup.procs", pid)
}
