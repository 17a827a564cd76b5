package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// 28: what the host's user runs later.

// repository is a workspace with things that the host runs.
func repository(t *testing.T) string {
	t.Helper()
	ws := t.TempDir()
	for name, content := range map[string]string{".git/hooks/pre-commit": "good\n", ".git/config": "good\n", ".bashrc": "good\n", "src/main.c": "x\n"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(ws, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(ws, name), []byte(content), 0o644))
	}
	return ws
}

// evil are the files below a directory that say so.
func evil(t *testing.T, ws string, names ...string) (found []string) {
	t.Helper()
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(ws, n)); err == nil && strings.Contains(string(b), "evil") {
			found = append(found, n)
		}
	}
	return found
}

func TestProtect(t *testing.T) {
	attacks := []string{
		"echo evil >> .git/hooks/pre-commit",
		"echo evil > .git/hooks/post-merge",
		"rm -rf .git/hooks; mkdir .git/hooks; echo evil > .git/hooks/pre-commit",
		"mv .git/hooks x; mkdir .git/hooks; echo evil > .git/hooks/pre-commit",
		"mv .git x; mkdir -p .git/hooks; echo evil > .git/hooks/pre-commit; echo evil > .git/config",
		"cp -r .git y; echo evil > y/config; mv .git x; mv y .git",
		"rm -rf .git; mkdir -p .git/hooks; echo evil > .git/hooks/pre-commit",
		"echo evil > e; mv -f e .git/config",
		"echo evil > e; ln -f e .git/config",
		"echo evil > e; ln -sfn ../e .git/config",
		"ln .git/config e && echo evil > e",
		"echo evil > .bashrc",
		"rm -f .bashrc; echo evil > .bashrc",
		"echo evil > e; mv -f e .bashrc",
		"sed -i s/good/evil/ .bashrc .git/config",
		"chmod 777 .git/hooks .git/config .bashrc; echo evil > .git/config",
		"truncate -s 0 .git/config; echo evil > .git/config",
		`python3 -c 'import ctypes; ctypes.CDLL(None).renameat2(-100, b"e.d", -100, b".git", 2)' ; mkdir -p e.d/hooks; echo evil > e.d/config; ` +
			`python3 -c 'import ctypes; ctypes.CDLL(None).renameat2(-100, b"e.d", -100, b".git", 2)'`,
		"umount .git/hooks; umount -l .git; echo evil > .git/hooks/pre-commit",
	}
	targets := []string{".git/hooks/pre-commit", ".git/hooks/post-merge", ".git/config", ".bashrc"}
	for _, a := range attacks {
		t.Run(strings.ReplaceAll(a, "/", "|"), func(t *testing.T) {
			free := repository(t)
			run(t, Config{Workspace: free}, a)
			require.NotEmpty(t, evil(t, free, targets...), "the control")

			ws := repository(t)
			before := content(t, ws)
			r := run(t, Config{Workspace: ws, Protect: DefaultProtect()}, a)
			require.Empty(t, evil(t, ws, targets...))
			require.Empty(t, r.ProtectViolations)
			for line := range strings.Lines(before) {
				require.Contains(t, content(t, ws), line)
			}

			o := overlayOn(t, repository(t))
			run(t, Config{Overlay: o, Protect: DefaultProtect()}, a)
			_, err := o.Commit(t.Context())
			require.NoError(t, err, "the same on an overlay")
			require.Empty(t, evil(t, o.impl.baseDir, targets...))
		})
	}
}

// What is not there cannot be held; it is told, and nothing is left on the host.
func TestProtectAbsent(t *testing.T) {
	ws := repository(t)
	before := ownership(t, ws)
	c := Config{Workspace: ws, Protect: DefaultProtect()}
	r := run(t, c, "cat .git/config; ls -A")
	require.Equal(t, "good\n.bashrc\n.git\nsrc\n", string(r.Stdout), "and no file of nothing inside either")
	require.Empty(t, r.ProtectViolations)
	require.Equal(t, before, ownership(t, ws))
	r = run(t, c, "echo evil > .envrc; mkdir .vscode; ln -s src/main.c .profile; ln -s /nowhere .zshrc; echo fine > src/other")
	require.Equal(t, []string{".envrc", ".profile", ".vscode", ".zshrc"}, r.ProtectViolations)
	r = run(t, c, "echo evil > .envrc; rmdir .vscode; ls -d .vscode; rm .profile")
	require.Equal(t, []string{".profile"}, r.ProtectViolations, "from then on it is held, but for links")
	require.Equal(t, ".vscode\n", string(r.Stdout))

	p, err := Start(t.Context(), c, "bash", "-c", "rm .zshrc; mkdir -p .idea; kill -9 $$")
	require.NoError(t, err)
	r, err = p.Wait()
	require.NoError(t, err)
	require.Equal(t, []string{".idea", ".zshrc"}, r.ProtectViolations)

	s, err := NewSession(t.Context(), Config{Workspace: repository(t), Protect: DefaultProtect()})
	require.NoError(t, err)
	require.Empty(t, s.ProtectViolations())
	_, err = s.Exec(t.Context(), "echo evil > .envrc")
	require.NoError(t, err)
	require.Equal(t, []string{".envrc"}, s.ProtectViolations())
	require.NoError(t, s.Close())
	require.Equal(t, []string{".envrc"}, s.ProtectViolations())

	o := overlayOn(t, repository(t))
	run(t, Config{Overlay: o, Protect: DefaultProtect()}, "echo evil > .envrc; mkdir .idea; echo ok > src/new")
	run(t, Config{Overlay: o}, "echo later >> src/main.c")
	var refused *ErrProtected
	_, err = o.Commit(t.Context())
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []string{".envrc", ".idea"}, refused.Paths)
	require.NoFileExists(t, filepath.Join(o.impl.baseDir, "src/new"))
	run(t, Config{Overlay: o}, "rm -r .envrc .idea")
	_, err = o.Commit(t.Context())
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(o.impl.baseDir, "src/new"))
}

func TestProtectLinks(t *testing.T) {
	outside := t.TempDir()
	linked := func() string {
		ws := repository(t)
		require.NoError(t, os.Rename(filepath.Join(ws, ".git"), filepath.Join(ws, "real")))
		require.NoError(t, os.Symlink("real", filepath.Join(ws, ".git")))
		require.NoError(t, os.Mkdir(filepath.Join(ws, "dot"), 0o755))
		require.NoError(t, os.Rename(filepath.Join(ws, ".bashrc"), filepath.Join(ws, "dot/bashrc")))
		require.NoError(t, os.Symlink("dot/bashrc", filepath.Join(ws, ".bashrc")))
		require.NoError(t, os.Symlink(outside, filepath.Join(ws, ".vscode")))
		require.NoError(t, os.Symlink(".zshrc", filepath.Join(ws, ".zshrc")))
		return ws
	}
	for attack, violations := range map[string][]string{
		"echo evil >> .git/config; echo evil >> real/config; echo evil >> .bashrc; echo evil >> dot/bashrc": nil,
		"mv real x; mkdir -p real/hooks; echo evil > real/config":                                           nil,
		"mv dot x; mkdir dot; echo evil > dot/bashrc":                                                       nil,
		"rm .git; mkdir -p .git/hooks; echo evil > .git/fine":                                               {".git"},
		"rm .bashrc .vscode; ln -s elsewhere .bashrc; ln -s " + outside + "/x .vscode":                      {".bashrc", ".vscode"},
	} {
		ws := linked()
		r := run(t, Config{Workspace: ws, Protect: DefaultProtect()}, attack)
		require.Equal(t, violations, r.ProtectViolations, attack)
		require.Empty(t, evil(t, ws, "real/config", "dot/bashrc", "real/hooks/pre-commit"), attack)

		o := overlayOn(t, linked())
		run(t, Config{Overlay: o, Protect: DefaultProtect()}, attack)
		_, err := o.Commit(t.Context())
		var refused *ErrProtected
		require.Equal(t, violations != nil, errors.As(err, &refused), "%s: %v", attack, err)
		require.Empty(t, evil(t, o.impl.baseDir, "real/config", "dot/bashrc", "real/hooks/pre-commit"), attack)
	}

	// A second name leads past the mount; and so does the host itself.
	ws := repository(t)
	require.NoError(t, os.Link(filepath.Join(ws, ".bashrc"), filepath.Join(ws, "second")))
	r := run(t, Config{Workspace: ws, Protect: DefaultProtect()}, "echo evil > second")
	require.Equal(t, []string{".bashrc"}, r.ProtectViolations)
	p, err := Start(t.Context(), Config{Workspace: ws, Protect: DefaultProtect()}, "bash", "-c", "echo ready; while :; do (echo evil > .git/config); done")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(ws, "new"), []byte("good too"), 0o644))
	require.NoError(t, os.Rename(filepath.Join(ws, "new"), filepath.Join(ws, ".git/config")))
	require.Eventually(t, func() bool { return len(evil(t, ws, ".git/config")) > 0 }, patience, 1e6)
	p.Kill()
	r, err = p.Wait()
	require.NoError(t, err)
	require.Equal(t, []string{".git/config"}, r.ProtectViolations)

	// A linked worktree: .git is a file that says where the directory is.
	ws = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ws, ".git"), []byte("gitdir: /good\n"), 0o644))
	r = run(t, Config{Workspace: ws, Protect: DefaultProtect()}, "echo evil > .git; rm -f .git; mv .git x; mkdir .git")
	require.Empty(t, evil(t, ws, ".git"))
	require.Empty(t, r.ProtectViolations)
	require.Contains(t, string(r.Stderr), "Read-only file system")
}

func TestProtectRefused(t *testing.T) {
	ws := repository(t)
	for _, paths := range [][]string{{""}, {"."}, {"/etc"}, {"../x"}, {"a/../b"}, {".git//hooks"}, {"a\x00"}, {strings.Repeat("a/", 200)}, {strings.Repeat("a", 256)}, make([]string, 65)} {
		_, err := Run(t.Context(), Config{Workspace: ws, Protect: paths}, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config)
		require.Contains(t, config.Field, "Protect")
	}
	o := overlayOn(t, ws)
	for _, c := range []Config{
		{Workspace: ws, Protect: DefaultProtect(), Binds: []Bind{{ws, "/data", true}}},
		{Workspace: ws, Protect: DefaultProtect(), Binds: []Bind{{"/usr", "/ok", false}, {filepath.Join(ws, ".git"), "/data", true}}},
		{Workspace: ws, Protect: DefaultProtect(), Binds: []Bind{{filepath.Dir(ws), "/data", true}}},
		{Overlay: o, Binds: []Bind{{ws, "/data", true}}}, {Overlay: o, Binds: []Bind{{o.impl.data(), "/data", true}}},
	} {
		_, err := Run(t.Context(), c, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config)
		require.Regexp(t, `^Binds\[[01]\]\.Source$`, config.Field)
		for i := range c.Binds {
			c.Binds[i].Writable = false
		}
		run(t, c, "true")
	}
	r := run(t, Config{Protect: DefaultProtect()}, "echo > .envrc") // it dies with the sandbox
	require.Zero(t, r.ExitCode)
}

// Work goes on beside it.
func TestProtectGit(t *testing.T) {
	ws := t.TempDir()
	git := "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; git -c safe.directory='*' "
	outsideIn(t, ws, "git init -q . && mkdir d && echo x > d/f && git add .")
	r := run(t, Config{Workspace: ws, Protect: DefaultProtect()}, git+"commit -qm one && echo y > d/f && "+git+"commit -qam two && git mv d e && git checkout -qb b && git log --oneline | wc -l && ! git config core.fsmonitor evil")
	require.Equal(t, "2\n", string(r.Stdout), "%s", r.Stderr)
	require.Zero(t, r.ExitCode, "%s", r.Stderr)
	require.Empty(t, r.ProtectViolations)
}

// The config of another directory, which .git/commondir names, runs programs of the host.
func TestProtectCommonDir(t *testing.T) {
	attack := "cp -r .git evil && git config -f evil/config core.fsmonitor 'touch $PWD/evil/ran; false' && echo ../evil > .git/commondir"
	ws := t.TempDir()
	outsideIn(t, ws, "git init -q . && git -c user.name=a -c user.email=a@b commit -qm x --allow-empty")
	o := overlayOn(t, ws)
	run(t, Config{Overlay: o, Protect: DefaultProtect()}, attack)
	_, err := o.Commit(t.Context())
	var protected *ErrProtected
	require.ErrorAs(t, err, &protected)
	require.Equal(t, []string{".git/commondir"}, protected.Paths)

	r := run(t, Config{Workspace: ws, Protect: DefaultProtect()}, attack)
	require.Zero(t, r.ExitCode, "%s", r.Stderr)
	require.Equal(t, []string{".git/commondir"}, r.ProtectViolations)
	outsideIn(t, ws, "git status")
	require.FileExists(t, filepath.Join(ws, "evil/ran"), "the control")
}

// The workspace of a lease is protected as one of Run is.
func TestProtectPool(t *testing.T) {
	pool, err := NewPool(Config{Protect: DefaultProtect()}, 1)
	require.NoError(t, err)
	defer pool.Close()
	ws := repository(t)
	r, err := pool.Run(t.Context(), Lease{Workspace: ws}, "echo evil > .bashrc; mv .git x; echo evil > .envrc; echo fine > src/new")
	require.NoError(t, err)
	require.Empty(t, evil(t, ws, ".bashrc"))
	require.DirExists(t, filepath.Join(ws, ".git"))
	require.FileExists(t, filepath.Join(ws, "src/new"))
	require.Equal(t, []string{".envrc"}, r.ProtectViolations)
	require.EqualValues(t, 1, pool.Stats().Warm)
	var config *ErrConfig
	_, err = NewPool(Config{Overlay: overlayOn(t, repository(t))}, 1)
	require.ErrorAs(t, err, &config)
}
