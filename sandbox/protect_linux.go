package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
)

// guard is what a run does to the workspace beside lending it: it has the overlay
// for itself, and afterwards it looks at the protected paths that no mount could hold.
type guard struct {
	overlay   *overlay
	workspace string
	watched   map[string]string // by path: what is there, as look tells it
}

func (c *Config) guard(ctx context.Context) (*guard, error) {
	paths, err := c.protect()
	if err != nil {
		return nil, err
	}
	g := &guard{}
	if c.Overlay != nil {
		all, err := withTargets(c.Overlay.impl.baseDir, paths)
		if err == nil {
			err = c.Overlay.impl.enter(ctx, all)
		}
		if err != nil {
			return nil, err
		}
		g.overlay = c.Overlay.impl
		return g, nil
	}
	if c.Workspace == "" || len(paths) == 0 {
		return g, nil
	}
	if g.workspace, err = hostDir("Workspace", c.Workspace); err != nil {
		return nil, err
	}
	held, err := hold(g.workspace, paths)
	if err != nil {
		return nil, err
	}
	g.watched = held.watched
	return g, nil
}

// violations are the watched paths that are not as they were.
func (g *guard) violations() []string {
	if g == nil || len(g.watched) == 0 {
		return nil
	}
	root, err := os.OpenRoot(g.workspace)
	if err != nil {
		return slices.Sorted(maps.Keys(g.watched)) // the directory itself is gone
	}
	defer root.Close()
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(g.watched)) {
		if look(root, name) != g.watched[name] {
			changed = append(changed, name)
		}
	}
	return changed
}

// end gives the overlay back.
func (g *guard) end() {
	if g != nil && g.overlay != nil {
		g.overlay.leave()
		g.overlay = nil
	}
}

// look tells what is there: "" for nothing, where a link points, which directory it
// is, and of a file whether it was written to.
func look(root *os.Root, name string) string {
	st, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return "error"
	case st.Mode()&fs.ModeSymlink != 0:
		target, _ := root.Readlink(name)
		return "link to " + target
	}
	sys := st.Sys().(*syscall.Stat_t)
	if st.IsDir() {
		return fmt.Sprintf("directory %d:%d", sys.Dev, sys.Ino)
	}
	return fmt.Sprintf("file %d:%d %d.%d", sys.Dev, sys.Ino, sys.Ctim.Sec, sys.Ctim.Nsec)
}

// holding is how the paths of a workspace are protected: by mounts on what is there,
// by a look afterwards at that and at what is not, and at links, on which nothing can
// be mounted.
type holding struct {
	root    *os.Root
	mounts  map[string]rootfs.Mount
	watched map[string]string
}

func hold(workspace string, paths []string) (*holding, error) {
	h := &holding{mounts: map[string]rootfs.Mount{}, watched: map[string]string{}}
	var err error
	if h.root, err = os.OpenRoot(workspace); err != nil {
		return nil, &ErrConfig{"Workspace", reason(err)}
	}
	defer h.root.Close()
	for _, name := range paths {
		if err := h.add(name, 0); err != nil {
			return nil, &ErrConfig{"Protect", name + ": " + reason(err)}
		}
	}
	return h, nil
}

// add follows a path name by name. A directory above a protected path becomes a
// mount point too: else it could be moved away with all that is below.
func (h *holding) add(name string, links int) error {
	parts := strings.Split(name, "/")
	for i := range parts {
		at := path.Join(parts[:i+1]...)
		last := i == len(parts)-1
		st, err := h.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			h.watched[name] = ""
			return nil
		case err != nil:
			return err
		case st.Mode()&fs.ModeSymlink != 0:
			return h.link(at, parts[i+1:], links)
		case st.IsDir() && !last:
			if _, ok := h.mounts[at]; !ok {
				h.mounts[at] = rootfs.Mount{Path: at}
			}
			continue
		case !last: // .git of a linked worktree is a file that says where the directory is
			h.watched[name] = look(h.root, name)
		}
		h.mounts[at] = rootfs.Mount{Path: at, ReadOnly: true}
		h.watched[at] = look(h.root, at) // a second name of it leads past the mount
		return nil
	}
	return nil
}

func (h *holding) link(at string, rest []string, links int) error {
	const most = 40 // as the kernel follows
	target, err := h.root.Readlink(at)
	if err != nil {
		return err
	}
	h.watched[at] = look(h.root, at)
	full := path.Join(append([]string{path.Dir(at), target}, rest...)...)
	if path.IsAbs(target) || escapes(full) || full == "." || links == most {
		return nil // it is not the sandbox's
	}
	return h.add(full, links+1)
}

// withTargets adds to protected paths of an overlay what links of its base make of them.
func withTargets(base string, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	held, err := hold(base, paths)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(paths, slices.Collect(maps.Keys(held.watched)))
	slices.Sort(all)
	return slices.Compact(all), nil
}

// mountsOf are the mounts for protected paths, outer ones first.
func (c *Config) mountsOf(workspace string) ([]rootfs.Mount, error) {
	paths, err := c.protect()
	if err != nil || workspace == "" || len(paths) == 0 && c.Overlay == nil {
		return nil, err
	}
	if err := c.checkWayRound(workspace); err != nil {
		return nil, err
	}
	mounts := map[string]rootfs.Mount{}
	if c.Overlay == nil {
		held, err := hold(workspace, paths)
		if err != nil {
			return nil, err
		}
		mounts = held.mounts
	} else {
		// What is there only the sandbox sees; Commit refuses what these cannot hold.
		all, err := withTargets(workspace, paths)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
				if _, ok := mounts[dir]; !ok {
					mounts[dir] = rootfs.Mount{Path: dir, Optional: true}
				}
			}
			mounts[name] = rootfs.Mount{Path: name, ReadOnly: true, Optional: true}
		}
	}
	return slices.SortedFunc(maps.Values(mounts), func(a, b rootfs.Mount) int { return strings.Compare(a.Path, b.Path) }), nil
}

// checkWayRound refuses a writable bind by which the workspace, or the changes of an
// overlay, could be written to beside what keeps them.
func (c *Config) checkWayRound(workspace string) error {
	kept := []string{workspace}
	if c.Overlay != nil {
		kept = append(kept, c.Overlay.impl.path)
	}
	for i, b := range c.Binds {
		field := fmt.Sprintf("Binds[%d].Source", i)
		source, err := filepath.EvalSymlinks(b.Source)
		if err != nil {
			return &ErrConfig{field, reason(err)}
		}
		for _, dir := range kept {
			if b.Writable && (within(source, dir) || within(dir, source)) {
				return &ErrConfig{field, fmt.Sprintf("%.64q could be written to by it, past Protect or Overlay", dir)}
			}
		}
	}
	return nil
}
