package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Workspaces whose changes are kept apart.

func overlayOn(t *testing.T, base string) *Overlay {
	t.Helper()
	o, err := NewOverlay(base, OverlayOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	return o
}

// project makes a base with some files, of whoever the row wants.
func project(t *testing.T, uid, gid int) string {
	t.Helper()
	base := t.TempDir()
	for name, content := range map[string]string{"keep": "1\n", "change": "1\n", "drop": "1\n", "type": "1\n", "d/x": "1\n", "d/sub/y": "1\n", "swap/z": "1\n"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(base, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(base, name), []byte(content), 0o644))
	}
	if os.Geteuid() == 0 {
		require.NoError(t, filepath.Walk(base, func(p string, _ os.FileInfo, err error) error {
			return errors.Join(err, os.Lchown(p, uid, gid))
		}))
	}
	return base
}

func listed(t *testing.T, o *Overlay) []string {
	t.Helper()
	changes, err := o.Diff(t.Context())
	require.NoError(t, err)
	return lines(changes)
}

func lines(changes []Change) []string {
	var list []string
	for _, c := range changes {
		list = append(list, fmt.Sprintf("%s %s %v %d", c.Kind, c.Path, c.Mode, c.Size))
	}
	return list
}

func content(t *testing.T, dir string) string {
	t.Helper()
	f := files(t, dir, FileLimits{})
	var b strings.Builder
	for info, err := range f.Walk(".") {
		require.NoError(t, err)
		text, _ := get(f, info.Path)
		fmt.Fprintf(&b, "%s %v %s %q\n", info.Path, info.Mode, info.Target, text)
	}
	return b.String()
}

func overlaid(t *testing.T, o *Overlay, command string) string {
	t.Helper()
	r := run(t, Config{Overlay: o}, command)
	require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
	return string(r.Stdout)
}

const edits = `set -e; echo 2 >> change; rm drop; rm type; mkdir type; echo n > type/n; rm -r d; mkdir d; echo new > d/new; mv swap moved
ln -s keep link; chmod 755 keep; touch d; printf 1\\n > same; mkdir -m 700 empty`

func TestOverlay(t *testing.T) {
	for name, id := range map[string]int{"of the caller": os.Getuid(), "of a user": 1234} {
		t.Run(name, func(t *testing.T) {
			if id != os.Getuid() && os.Geteuid() != 0 {
				return // only root lends directories of others
			}
			base := project(t, id, id)
			owners, before := ownership(t, base), content(t, base)
			o := overlayOn(t, base)
			require.Empty(t, listed(t, o))
			require.Equal(t, "1000 1000\n", overlaid(t, o, "echo $(stat -c %u . keep)"))
			overlaid(t, o, edits)
			require.Equal(t, before, content(t, base), "the base is only read")
			require.Equal(t, owners, ownership(t, base))
			want := []string{
				"modified change -rw-r--r-- 4", "deleted d/sub drwxr-xr-x 0", "deleted d/x -rw-r--r-- 2", "added d/new -rw-r--r-- 4", "deleted drop -rw-r--r-- 2",
				"added empty drwx------ 0", "modified keep -rwxr-xr-x 2", "added link Lrwxrwxrwx 0", "added moved drwxr-xr-x 0", "added moved/z -rw-r--r-- 2",
				"added same -rw-r--r-- 2", "deleted swap drwxr-xr-x 0", "modified type drwxr-xr-x 0", "added type/n -rw-r--r-- 2",
			}
			require.ElementsMatch(t, want, listed(t, o))
			require.Equal(t, "1\n2\n", overlaid(t, o, "cat change; ! ls swap"), "a later run sees them")
			require.NotContains(t, overlaid(t, o, "cat /proc/self/mountinfo"), filepath.Base(filepath.Dir(base)), "no path of the host")

			fork, err := o.Fork(t.Context())
			require.NoError(t, err)
			defer fork.Close()
			require.ElementsMatch(t, want, listed(t, fork))
			require.Equal(t, "new\nn\n", overlaid(t, fork, "cat d/* type/n; ! ls drop; echo fork > forked; echo fork >> change"))
			require.ElementsMatch(t, want, listed(t, o), "each goes its own way")

			changes, err := o.Commit(t.Context())
			require.NoError(t, err)
			require.ElementsMatch(t, want, lines(changes))
			require.Empty(t, listed(t, o))
			require.Equal(t, "1\n2\nn\n", overlaid(t, o, "cat change type/n; test -x keep"))
			after := content(t, base)
			for _, line := range []string{"change -rw-r--r--  \"1\\n2\\n\"", "d/new", "link Lrwxrwxrwx keep", "moved/z", "keep -rwxr-xr-x"} {
				require.Contains(t, after, line)
			}
			require.NotContains(t, after, "drop")
			require.NotContains(t, after, "swap")
			require.NotContains(t, after, ".lm-sandbox")
			for _, line := range strings.Split(strings.TrimSpace(ownership(t, base)), "\n") {
				require.Contains(t, line, fmt.Sprintf(" %d:", id), "what is written belongs to the owner of the base")
			}

			var conflict *ErrConflict
			_, err = fork.Commit(t.Context())
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, []string{"change"}, conflict.Paths, "what is the same already is none")
			require.Equal(t, after, content(t, base))
			require.NoError(t, fork.Discard())
			require.Empty(t, listed(t, fork))
			require.Equal(t, "1\n2\n", overlaid(t, fork, "cat change"))
		})
	}
}

func TestOverlayConflicts(t *testing.T) {
	rows := []struct {
		name, inside, outside string
		paths                 []string
	}{
		{"both write", "echo i > change", "echo o > change", []string{"change"}},
		{"both make", "echo i > new", "echo o > new", []string{"new"}},
		{"deleted outside", "echo i > change", "rm change", []string{"change"}},
		{"deleted inside", "rm change", "echo o > change", []string{"change"}},
		{"a directory deleted inside", "rm -r d", "echo o > d/sub/y", []string{"d", "d/sub/y"}},
		{"replaced outside with an older file", "echo i > change", "cp -p keep change2; touch -d 2001-01-01 change2; mv change2 change", []string{"change"}},
		{"something else", "echo i > change; mv drop dropped; echo i > new", "echo o > keep; rm type", nil},
		{"deleted by both", "rm drop", "rm drop", nil},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			base := project(t, os.Getuid(), os.Getgid())
			o := overlayOn(t, base)
			overlaid(t, o, r.inside)
			outsideIn(t, base, r.outside)
			before := content(t, base)
			_, err := o.Commit(t.Context())
			if r.paths == nil {
				if r.name == "something else" {
					// A file that was moved, in a directory where the host removed another, may have been the one.
					var conflict *ErrConflict
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, []string{"dropped"}, conflict.Paths)
					return
				}
				require.NoError(t, err)
				return
			}
			var conflict *ErrConflict
			require.ErrorAs(t, err, &conflict)
			for _, p := range conflict.Paths {
				require.Contains(t, r.paths, p)
			}
			require.NotEmpty(t, conflict.Paths)
			require.Equal(t, before, content(t, base), "nothing was written")
		})
	}
}

func outsideIn(t *testing.T, dir, command string) {
	t.Helper()
	p, err := os.StartProcess("/bin/bash", []string{"bash", "-ec", command}, &os.ProcAttr{Dir: dir, Env: os.Environ()})
	require.NoError(t, err)
	st, err := p.Wait()
	require.NoError(t, err)
	require.True(t, st.Success())
}

func TestOverlayUse(t *testing.T) {
	base := project(t, os.Getuid(), os.Getgid())
	dir := t.TempDir()
	o, err := NewOverlay(base, OverlayOptions{Dir: dir})
	require.NoError(t, err)

	// One at a time; and what a killed one leaves is no harm.
	p, err := Start(t.Context(), Config{Overlay: o}, "bash", "-c", "echo x > made; while :; do cp /bin/bash b; echo y >> change; mv b c; rm c; done")
	require.NoError(t, err)
	_, err = Run(t.Context(), Config{Overlay: o}, "true")
	require.ErrorIs(t, err, ErrBusy)
	_, err = o.Commit(t.Context())
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorIs(t, o.Discard(), ErrBusy)
	require.ErrorIs(t, o.Close(), ErrBusy)
	require.Eventually(t, func() bool {
		changes, err := o.Diff(t.Context())
		return err == nil && len(changes) > 1
	}, patience, 1e6)
	p.Kill()
	_, err = p.Wait()
	require.NoError(t, err)
	require.Equal(t, "x\n", overlaid(t, o, "cat made; touch again"))
	overlaid(t, o, "mkdir -p shut/er; touch shut/er/x; chmod 0 shut/er shut")
	require.NoError(t, o.Discard(), "also what the sandbox made unreadable")
	require.Empty(t, listed(t, o))

	s, err := NewSession(t.Context(), Config{Overlay: o})
	require.NoError(t, err)
	_, err = s.Exec(t.Context(), "echo session > s")
	require.NoError(t, err)
	_, err = Run(t.Context(), Config{Overlay: o}, "true")
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, s.Close())
	require.Equal(t, []string{"added s -rw-r--r-- 8"}, listed(t, o))

	bounded := Config{Overlay: o, Limits: Limits{Workspace: 4 << 20}}
	require.Equal(t, LimitDisk, run(t, bounded, "head -c 40M /dev/zero > big; sleep 1000").Limit, "the changes are bounded as a workspace is")
	require.Equal(t, LimitNone, run(t, bounded, "rm big; head -c 1M /dev/zero > small; rm small").Limit)
	overlaid(t, o, "mkfifo pipe")
	var file *ErrFile
	_, err = o.Commit(t.Context())
	require.ErrorAs(t, err, &file)
	require.Equal(t, "pipe", file.Path)
	require.NoFileExists(t, filepath.Join(base, "s"), "all or nothing")

	_, err = Run(t.Context(), Config{Overlay: o, Workspace: base}, "true")
	var config *ErrConfig
	require.ErrorAs(t, err, &config)
	require.NoError(t, o.Close())
	require.NoError(t, o.Close())
	_, err = o.Diff(t.Context())
	require.ErrorIs(t, err, ErrOverlayClosed)
	_, err = Run(t.Context(), Config{Overlay: o}, "true")
	require.ErrorIs(t, err, os.ErrClosed)
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, list)
}

// What waits for a Commit waits no longer than its context.
func TestOverlayWait(t *testing.T) {
	o := overlayOn(t, project(t, os.Getuid(), os.Getgid()))
	require.NoError(t, o.impl.hold(t.Context())) // as a Commit does all along
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Config{Overlay: o}, "true")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = o.Diff(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = o.Commit(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = o.Fork(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	o.impl.yield()
	overlaid(t, o, "touch x")
}

// A set-id bit, a write through a link and a path of the base that is swapped for a
// link do not lead Commit out of the base.
func TestOverlayCommitConfined(t *testing.T) {
	base := project(t, os.Getuid(), os.Getgid())
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "x"), []byte("canary"), 0o644))
	o := overlayOn(t, base)
	overlaid(t, o, "echo evil > d/x; echo evil > d/sub/new; ln -s "+outside+" out; ln -s /etc/passwd p")
	require.NoError(t, os.RemoveAll(filepath.Join(base, "d")))
	require.NoError(t, os.Symlink(outside, filepath.Join(base, "d")))
	_, err := o.Commit(t.Context())
	var conflict *ErrConflict
	require.ErrorAs(t, err, &conflict)
	b, err := os.ReadFile(filepath.Join(outside, "x"))
	require.NoError(t, err)
	require.Equal(t, "canary", string(b))
	// Even if nobody noticed.
	o.impl.since = settled()
	_, err = o.Commit(t.Context())
	require.NoError(t, err, "the link is replaced by the directory")
	list, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, list, 1)
	target, err := os.Readlink(filepath.Join(base, "out"))
	require.NoError(t, err)
	require.Equal(t, outside, target, "a link is a link")
}

func TestOverlayRefused(t *testing.T) {
	var config *ErrConfig
	base := project(t, os.Getuid(), os.Getgid())
	for dir, options := range map[string]OverlayOptions{
		"/etc": {}, "": {}, filepath.Join(base, "none"): {}, filepath.Join(base, "keep"): {}, base: {Dir: filepath.Join(base, "d")},
	} {
		_, err := NewOverlay(dir, options)
		require.ErrorAs(t, err, &config, dir)
	}
	_, err := NewOverlay(base, OverlayOptions{Dir: t.TempDir(), Limits: FileLimits{Entries: -1}})
	require.ErrorAs(t, err, &config)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := overlayOn(t, base)
	overlaid(t, o, "touch x")
	_, err = o.Diff(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// What a dead caller left is removed; what a living one has is not.
func TestOverlaySweep(t *testing.T) {
	base, dir := project(t, os.Getuid(), os.Getgid()), t.TempDir()
	alive, err := NewOverlay(base, OverlayOptions{Dir: dir})
	require.NoError(t, err)
	dead, err := NewOverlay(base, OverlayOptions{Dir: dir})
	require.NoError(t, err)
	overlaid(t, dead, "mkdir x; touch x/y; chmod 0 x; rm drop")
	require.NoError(t, dead.impl.lock.Close()) // as the kernel does
	planted := filepath.Join(dir, overlayPrefix+"planted")
	require.NoError(t, os.Mkdir(planted, 0o700))
	require.NoError(t, unix.Mkfifo(filepath.Join(planted, overlayLock), 0o600))
	next, err := NewOverlay(base, OverlayOptions{Dir: dir})
	require.NoError(t, err)
	require.NoDirExists(t, dead.impl.path)
	require.DirExists(t, alive.impl.path)
	require.NoError(t, next.Close())
	require.NoError(t, alive.Close())
}

// A filesystem that cannot hold the changes is named at once.
func init() {
	roles["overlay on an overlay"] = func() {
		dir := os.Getenv("LM_SANDBOX_TEST_DIR")
		at := func(name string) string { return filepath.Join(dir, name) }
		var err error
		for _, d := range []string{"lower", "upper", "work", "merged", "base"} {
			err = errors.Join(err, os.Mkdir(at(d), 0o755))
		}
		err = errors.Join(err, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("overlay", at("merged"), "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))))
		if err != nil {
			fmt.Println("mount:", err)
			return
		}
		_, err = NewOverlay(at("base"), OverlayOptions{Dir: at("merged")})
		var refused *ErrOverlay
		if !errors.As(err, &refused) || refused.Remedy == "" {
			fmt.Println("not refused:", err)
		}
		o, err := NewOverlay(at("merged"), OverlayOptions{Dir: at("base")})
		if err != nil {
			fmt.Println(err)
			return
		}
		var owner *ErrOwner // it has no idmapped mounts
		if _, err := Run(context.Background(), Config{Overlay: o}, "touch x"); err != nil && !errors.As(err, &refused) && !errors.As(err, &owner) {
			fmt.Println("an overlay as the base:", err)
		}
		if err := o.Close(); err != nil {
			fmt.Println(err)
		}
	}
}

func TestOverlayOnOverlay(t *testing.T) {
	needRoot(t)
	c := again("overlay on an overlay", "LM_SANDBOX_TEST_DIR="+t.TempDir())
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}
