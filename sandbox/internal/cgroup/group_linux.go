package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Limits are those of one group; a zero field sets none.
type Limits struct {
	Memory      int64   // bytes of all that the kernel charges: pages, tmpfs, pipes, sockets
	Pids        int     // processes and threads
	CPUs        float64 // processors' worth of time
	Read, Write int64   // bytes a second, of each disk of the host
}

// Usage is what a group has used; a field is 0 where the kernel does not tell.
type Usage struct {
	CPU    time.Duration
	Memory int64 // peak, bytes
	Pids   int64 // peak
}

// Gauge is a file that counts something of a group. The value is the number
// behind Key, or the first of the file if Key is "".
type Gauge struct{ Path, Key string }

// Group is a control group with nothing in it but what the caller lets in.
type Group struct {
	// Enter are files to which a process of one thread writes "0" to be in the
	// group (v1: "tasks", which unlike "cgroup.procs" makes nobody wait).
	Enter []string
	// Dir is for clone3 with CLONE_INTO_CGROUP (v2), or nil.
	Dir *os.File
	// CPU counts time, in units of CPUUnit; Kills and Refused count processes
	// that were killed for want of memory, and those that were not made because
	// there were too many.
	CPU, Kills, Refused Gauge
	CPUUnit             time.Duration

	peaks [2]Gauge // of memory and of pids
	dirs  []string
}

var serial atomic.Uint64

// New makes a group. Its error says what the host lacks.
func New(l Limits) (*Group, error) {
	p, err := find()
	if err != nil {
		return nil, err
	}
	g, err := p.make(l)
	if errors.Is(err, fs.ErrNotExist) { // this process was moved meanwhile
		forget()
		q, err := find()
		if err != nil || (q.v2 == "") != (p.v2 == "") {
			return nil, errors.Join(ErrNone, err)
		}
		return q.make(l)
	}
	return g, err
}

func (p *place) make(l Limits) (*Group, error) {
	name := p.name(serial.Add(1))
	g := &Group{}
	var err error
	if p.v2 != "" {
		err = g.makeV2(filepath.Join(p.v2, name), l)
	} else {
		err = g.makeV1(p.v1, name, l)
	}
	if err != nil {
		g.Remove()
		return nil, err
	}
	return g, nil
}

func (g *Group) mkdir(dir string) error {
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	g.dirs = append(g.dirs, dir)
	return nil
}

// write sets one value of a group. Package os would give the file to the poller,
// which takes as long as the write.
func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write " + value + " to", Path: path, Err: err}
	}
	return nil
}

// writeIf is for what not every kernel has.
func writeIf(dir, file, value string) error {
	err := write(dir, file, value)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// Read returns the value of a gauge, 0 if there is none.
func (g Gauge) Read() int64 {
	fd, err := unix.Open(g.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var b [1024]byte
	length, err := unix.Read(fd, b[:])
	if err != nil {
		return 0
	}
	_, text, ok := strings.Cut("\n"+string(b[:length]), "\n"+g.Key)
	if !ok {
		return 0
	}
	if i := strings.IndexAny(text, " \n"); i >= 0 {
		text = text[:i]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Usage reads what has been used so far.
func (g *Group) Usage() Usage {
	return Usage{CPU: time.Duration(g.CPU.Read()) * g.CPUUnit, Memory: g.peaks[0].Read(), Pids: g.peaks[1].Read()}
}

// patience is how long the last process of a group may take to be gone.
const patience = 5 * time.Second

// Remove removes an empty group. Where a process is still on its way out it is
// tried again; what stays all the same is swept by a later process.
func (g *Group) Remove() {
	if g.Dir != nil {
		g.Dir.Close()
	}
	end := time.Now().Add(patience)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		left := g.dirs[:0]
		for _, dir := range g.dirs {
			if err := unix.Rmdir(dir); errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINTR) {
				left = append(left, dir)
			}
		}
		g.dirs = left
		if len(left) == 0 || time.Now().After(end) {
			return
		}
		time.Sleep(wait)
	}
}

func disks() ([]string, error) {
	files, err := filepath.Glob("/sys/block/*/dev")
	if err != nil || len(files) == 0 {
		return nil, errors.New("no disks in /sys/block")
	}
	var out []string
	for _, f := range files {
		switch base := filepath.Base(filepath.Dir(f)); {
		case strings.HasPrefix(base, "loop"), strings.HasPrefix(base, "ram"), strings.HasPrefix(base, "zram"):
			continue // what they hold is on another or in memory
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("disks: %w", err)
		}
		out = append(out, strings.TrimSpace(string(b)))
	}
	return out, nil
}
