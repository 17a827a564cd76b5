package sandbox

import (
	"errors"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// extent is what files take of a disk.
type extent struct {
	bytes, files int64
	hidden       int64 // directories that this process may not list
}

// maxNesting bounds the open directories of a walk. What is nested deeper counts
// as too much: programs do not do that, and it could not be measured.
const maxNesting = 256

// growth watches how a workspace on the host grows. There is no quota that a
// sandbox could set there: a project quota needs a filesystem that is mounted for
// it, and a change of every file that is there.
type growth struct {
	root   *os.File
	limits Limits
	first  extent
	quit   chan struct{}
	ended  chan struct{}
	full   bool // valid once ended is closed
}

// newGrowth measures what is there already; nil if nothing limits it.
func newGrowth(dir string, l Limits) (*growth, error) {
	if dir == "" || l.Workspace == 0 && l.WorkspaceFiles == 0 {
		return nil, nil
	}
	root, err := os.Open(dir)
	if err != nil {
		return nil, &ErrConfig{"Workspace", reason(err)}
	}
	g := &growth{root: root, limits: l, quit: make(chan struct{}), ended: make(chan struct{})}
	if g.first, err = g.measure(); err != nil {
		root.Close()
		return nil, &ErrConfig{"Workspace", reason(err)}
	}
	return g, nil
}

func (g *growth) close() {
	if g != nil {
		g.root.Close()
	}
}

const (
	growthPause = 50 * time.Millisecond
	// growthShare keeps the cost of walking at a twentieth of a processor, or at
	// half of one while the disk fills up.
	growthShare = 19
)

// watch calls over once the workspace has grown too much.
func (g *growth) watch(over func()) {
	defer close(g.ended)
	timer := time.NewTimer(growthPause)
	defer timer.Stop()
	var cost time.Duration
	walked, free := time.Now(), g.free()
	var left int64 = math.MaxInt64
	if g.limits.Workspace > 0 {
		left = g.limits.Workspace
	}
	for {
		select {
		case <-g.quit:
			g.full = g.exceeded(nil)
			return
		case <-timer.C:
		}
		since := time.Since(walked)
		if since >= growthShare*cost || since >= cost && free-g.free() > left {
			begin := time.Now()
			if g.exceeded(&left) {
				g.full = true
				over()
				return
			}
			walked, free = time.Now(), g.free()
			cost = walked.Sub(begin)
		}
		timer.Reset(growthPause)
	}
}

// stop says whether the limit was exceeded in the end.
func (g *growth) stop() bool {
	if g == nil {
		return false
	}
	close(g.quit)
	<-g.ended
	g.root.Close()
	return g.full
}

// free is what the whole filesystem has left, in bytes.
func (g *growth) free() int64 {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(g.root.Fd()), &fs) != nil {
		return 0
	}
	return int64(fs.Bfree) * fs.Bsize
}

// exceeded measures, and sets how many bytes are left.
func (g *growth) exceeded(left *int64) bool {
	now, err := g.measure()
	if errors.Is(err, errNested) {
		return true
	}
	if err != nil {
		return false // the host's trouble, not the command's
	}
	bytes, files := now.bytes-g.first.bytes, now.files-g.first.files
	if left != nil && g.limits.Workspace > 0 {
		*left = g.limits.Workspace - bytes
	}
	return g.limits.Workspace > 0 && bytes > g.limits.Workspace ||
		g.limits.WorkspaceFiles > 0 && files > g.limits.WorkspaceFiles ||
		now.hidden > g.first.hidden
}

var errNested = errors.New("directories are nested too deeply")

func (g *growth) measure() (extent, error) {
	w := walk{links: map[inode]bool{}}
	err := w.directory(int(g.root.Fd()), ".", 0)
	return w.extent, err
}

type inode struct{ dev, ino uint64 }

// walk adds up a tree that is changed meanwhile by somebody who would have it
// lead elsewhere: nothing is opened but directories, by the one above.
type walk struct {
	extent
	links map[inode]bool // seen, of those with several names
}

func (w *walk) directory(at int, name string, depth int) error {
	if depth > maxNesting {
		return errNested
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // gone, or another thing by now
	case errors.Is(err, unix.EACCES):
		w.hidden++
		return nil
	case err != nil:
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, n := range names {
			if err := w.entry(fd, n, depth); err != nil {
				return err
			}
		}
		if err != nil || len(names) == 0 {
			return nil
		}
	}
}

func (w *walk) entry(dir int, name string, depth int) error {
	var st unix.Stat_t
	there := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	if !there {
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if w.links[id] {
			return nil
		}
		w.links[id] = true
	}
	w.files++
	w.bytes += st.Blocks * 512 // stat(2)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.directory(dir, name, depth+1)
	}
	return nil
}
