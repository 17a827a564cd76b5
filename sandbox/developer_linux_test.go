package sandbox

import (
	"embed"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a developer's tools do goes on working inside.

//go:embed testdata/developer
var developerFiles embed.FS

func TestDeveloperWork(t *testing.T) {
	const identity = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com; "
	tests := []struct {
		name     string
		needs    string // a program
		optional bool   // the build of this module does without it
		command  string
		want     string
	}{
		{"git", "git", false, identity + "git init -q -b main . && echo one > f && git add f && git commit -qm first && git log --format=%s && " +
			"git worktree add -q ../tree -b side && cd ../tree && echo two > f && git commit -qam second && git -C ../git merge -q side && " +
			"git gc -q && git log --format=%s && git -C ../git status --short", "first\nsecond\nfirst\n"},
		{"python", "python3", false, "python3 work.py", "threads [0, 1, 2, 3, 4, 5, 6, 7]\nfork [0, 1, 4, 9]\nspawn [0, 1, 4, 9]\nforkserver [0, 1, 4, 9]\n" +
			"executor [0, 1, 4, 9]\nshared 42\nmemory 7\nmanager {'a': 1}\n"},
		{"node", "node", true, "node work.js", "worker 42\nprocess done\nwatched\nserved\n"},
		{"c", "gcc", false, "make -s -j2", "compiled\n"},
		{"golang", "go", false, "mv main.go.txt main.go && go mod init example.com/built 2>/dev/null && go build -o built . && ./built 2>&1", "built\n"},
		{"pip", "pip3", true, "python3 index.py -q --no-cache-dir --disable-pip-version-check install --target site greet && " +
			"PYTHONPATH=site python3 -c 'import greet; print(greet.text)'", "installed\n"},
		{"tar", "tar", false, "mkdir -p in/deep && echo x > in/deep/f && ln -s deep/f in/link && ln in/deep/f in/hard && chmod 750 in/deep && " +
			"tar czf a.tgz in && mkdir out && tar xpzf a.tgz -C out && cat out/in/link && stat -c '%a %h' out/in/deep out/in/hard", "x\n750 2\n644 2\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ws := t.TempDir()
			files, err := fs.Sub(developerFiles, "testdata/developer")
			require.NoError(t, err)
			require.NoError(t, os.CopyFS(ws, files))
			c := developer(t, ws)
			if run(t, c, "command -v "+tc.needs).ExitCode != 0 {
				if !tc.optional {
					t.Fatalf("%s is not installed where the sandbox sees it, in %s", tc.needs, c.Env["PATH"])
				}
				t.Skipf("%s is not installed where the sandbox sees it", tc.needs)
			}
			r := run(t, c, "mkdir -p "+tc.name+" && cd "+tc.name+" && "+tc.command)
			require.Equal(t, tc.want, string(r.Stdout), "exit code %d\n%s", r.ExitCode, r.Stderr)
			require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
		})
	}
}

// developer has the Go toolchain of the tests too, wherever it is.
func developer(t *testing.T, ws string) Config {
	t.Helper()
	tool, err := exec.LookPath("go")
	require.NoError(t, err)
	tool, err = filepath.EvalSymlinks(tool)
	require.NoError(t, err)
	root := filepath.Dir(filepath.Dir(tool))
	c := Config{Workspace: ws, Limits: Limits{Wall: 5 * time.Minute}, Env: map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin:" + root + "/bin", "GOTOOLCHAIN": "local",
	}}
	if !strings.HasPrefix(root, "/usr/") {
		c.Binds = []Bind{{Source: root, Target: root}}
	}
	return c
}
