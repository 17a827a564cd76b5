package sandbox

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Class G: input to the API.

func TestCommands(t *testing.T) { // 100
	for name, command := range map[string]string{
		"empty": "", "new lines": "\n\n", "NUL": "echo \x00", "10 MB": strings.Repeat("true;\n", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(t.Context(), Config{}, command)
			var config *ErrConfig
			require.ErrorAs(t, err, &config)
			require.Equal(t, "command", config.Field)
		})
	}
	r := run(t, Config{}, "echo 'open")
	require.Equal(t, 2, r.ExitCode)
	require.Contains(t, string(r.Stderr), "unexpected EOF")
	r = run(t, Config{}, "printf '\xff\xfe'; echo $'\\x80'")
	require.Equal(t, "\xff\xfe\x80\n", string(r.Stdout))
	r = run(t, Config{}, ": "+strings.Repeat("x", maxString-2)) // as long as the kernel takes
	require.Equal(t, 0, r.ExitCode)
	r = run(t, Config{}, "exec bash -s")
	require.Equal(t, 0, r.ExitCode, "standard input is empty")
	r = run(t, Config{Stdin: strings.NewReader("echo $((6*7))\n" + strings.Repeat("#\n", 1<<20))}, "bash -s")
	require.Equal(t, "42\n", string(r.Stdout))
	r = run(t, Config{Stdin: strings.NewReader(strings.Repeat("x", 1<<20))}, "exit 4") // that nobody reads
	require.Equal(t, 4, r.ExitCode)
}

func TestBadConfig(t *testing.T) { // 11, 101, 102, 103, 104
	ws := t.TempDir()
	file := filepath.Join(ws, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.NoError(t, os.Symlink("/etc", filepath.Join(ws, "link")))
	tree := t.TempDir()
	require.NoError(t, os.Symlink("/etc", filepath.Join(tree, "etc")))
	bind := func(source, target string) Config {
		return Config{Binds: []Bind{{Source: source, Target: target}}}
	}
	env := func(k, v string) Config { return Config{Env: map[string]string{k: v}} }
	tests := []struct {
		name, field string
		c           Config
	}{
		{"102 relative dir", "Dir", Config{Dir: "workspace"}},
		{"102 dir with ..", "Dir", Config{Dir: "/workspace/../etc"}},
		{"102 absent dir", "Dir", Config{Dir: "/workspace/none"}},
		{"102 dir is a file", "Dir", Config{Workspace: ws, Dir: "/workspace/file"}},
		{"102 dir is a link", "Dir", Config{Workspace: ws, Dir: "/workspace/link"}},
		{"102 dir through a link", "Dir", Config{Workspace: ws, Dir: "/workspace/link/ssl"}},
		{"11 dir through a descriptor", "Dir", Config{Dir: "/proc/self/fd/7/../../.."}},
		{"102 dir in proc", "Dir", Config{Dir: "/proc/self/cwd"}},
		{"102 dir with NUL", "Dir", Config{Dir: "/tmp\x00"}},
		{"102 private dir", "Dir", Config{Dir: "/root"}},
		{"absent workspace", "Workspace", Config{Workspace: filepath.Join(ws, "none")}},
		{"workspace is a file", "Workspace", Config{Workspace: file}},
		{"workspace is the root", "Workspace", Config{Workspace: "/"}},
		{"root's etc links to the host's", "Root", Config{Root: tree}},
		{"workspace is /etc", "Workspace", Config{Workspace: "/etc"}},
		{"workspace is of many", "Workspace", Config{Workspace: "/tmp"}},
		{"workspace is a spool", "Workspace", Config{Workspace: "/var/spool"}},
		{"workspace is /run", "Workspace", Config{Workspace: "/run"}},
		{"103 target through a link", "Binds[0].Target", bind(ws, "/var/tmp/lm-sandbox-test")},
		{"1100 binds", "Binds", Config{Binds: manyBinds(ws)}},
		{"relative helper", "HelperPath", Config{HelperPath: "helper"}},
		{"workspace links to /etc", "Workspace", Config{Workspace: filepath.Join(ws, "link")}},
		{"absent root", "Root", Config{Root: filepath.Join(ws, "none")}},
		{"101 env with =", `Env["A=B"]`, env("A=B", "c")},
		{"101 env without name", `Env[""]`, env("", "c")},
		{"101 env name with NUL", `Env["A\x00"]`, env("A\x00", "c")},
		{"101 env value with NUL", `Env["A"]`, env("A", "\x00")},
		{"101 env of 2 MB", `Env["A"]`, env("A", strings.Repeat("x", 2<<20))},
		{"103 absent source", "Binds[0].Source", bind("/no/such/file", "/data")},
		{"103 source is the root", "Binds[0].Source", bind("/", "/data")},
		{"103 source is /proc", "Binds[0].Source", bind("/proc", "/data")},
		{"103 source with ..", "Binds[0].Source", bind(ws+"/../x", "/data")},
		{"103 relative target", "Binds[0].Target", bind(ws, "data")},
		{"103 target with ..", "Binds[0].Target", bind(ws, "/data/../etc")},
		{"103 target in the workspace", "Binds[0].Target", bind(ws, "/workspace/data")},
		{"103 target is the root", "Binds[0].Target", bind(ws, "/")},
		{"103 target in /usr", "Binds[0].Target", bind(ws, "/usr/local")},
		{"103 target is /tmp", "Binds[0].Target", bind(ws, "/tmp")},
		{"103 same target", "Binds[1].Target", Config{Binds: []Bind{{ws, "/data", false}, {ws, "/data", false}}}},
		{"103 nested target", "Binds[1].Target", Config{Binds: []Bind{{ws, "/data", false}, {ws, "/data/x", false}}}},
		{"103 writable /etc", "Binds[0].Source", Config{Binds: []Bind{{"/etc", "/data", true}}}},
		{"104 negative wall", "Limits.Wall", Config{Limits: Limits{Wall: -1}}},
		{"104 negative memory", "Limits.Memory", Config{Limits: Limits{Memory: math.MinInt64}}},
		{"104 one process", "Limits.Pids", Config{Limits: Limits{Pids: 1}}},
		{"no such level", "MinLevel", Config{MinLevel: 9}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Run(t.Context(), tc.c, "true")
			var config *ErrConfig
			require.ErrorAs(t, err, &config)
			require.Equal(t, tc.field, config.Field)
			require.NotEmpty(t, config.Reason)
		})
	}
}

func manyBinds(source string) []Bind {
	binds := make([]Bind, 1100)
	for i := range binds {
		binds[i] = Bind{Source: source, Target: fmt.Sprintf("/data%d", i)}
	}
	return binds
}

func TestRealTimeSignal(t *testing.T) {
	r := run(t, Config{}, "kill -RTMIN+3 $$")
	require.Equal(t, "SIGRTMIN+3", r.Signal)
}

func TestHugeLimits(t *testing.T) { // 104
	l := Limits{Wall: math.MaxInt64, CPU: math.MaxInt64, Memory: math.MaxInt64, Pids: math.MaxInt, Disk: math.MaxInt64,
		Files: math.MaxInt, Output: math.MaxInt64}
	require.Equal(t, 0, run(t, Config{Limits: l}, "head -c 1M /dev/zero > /tmp/x").ExitCode)
	l = Limits{CPU: 1, Memory: 1 << 20, Pids: 2, Disk: 1, Files: 4, Output: 1, Wall: time.Minute}
	r := run(t, Config{Limits: l}, "echo ab")
	require.Equal(t, "a", string(r.Stdout))
	require.True(t, r.StdoutTruncated)
}

func TestExitCodes(t *testing.T) { // 107
	for command, code := range map[string]int{
		"exit 0": 0, "exit 1": 1, "exit 255": 255, "/etc/passwd": 126, "no-such-command": 127, "exit 300": 44,
	} {
		r := run(t, Config{}, command)
		require.Equal(t, code, r.ExitCode, command)
		require.Empty(t, r.Signal, command)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGPIPE} {
		r := run(t, Config{}, "kill -"+map[syscall.Signal]string{
			syscall.SIGTERM: "TERM", syscall.SIGSEGV: "SEGV", syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE"}[s]+" $$")
		require.Equal(t, 128+int(s), r.ExitCode)
		require.NotEmpty(t, r.Signal)
		require.Equal(t, LimitNone, r.Limit)
	}
}

func TestPrograms(t *testing.T) { // 107
	ws := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ws, "garbage"), []byte("\x7fnot a program"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(ws, "script"), []byte("#!/no/interpreter\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(ws, "data"), nil, 0o644))
	for program, want := range map[string]error{
		"/no/such/program": fs.ErrNotExist, "no-such-program": fs.ErrNotExist, "/workspace": fs.ErrPermission,
		"/workspace/data": fs.ErrPermission, "/workspace/garbage": syscall.ENOEXEC, "/workspace/script": fs.ErrNotExist,
	} {
		_, err := Start(t.Context(), Config{Workspace: ws}, program)
		var exec *ErrExec
		require.ErrorAs(t, err, &exec, program)
		require.ErrorIs(t, err, want, program)
		require.Equal(t, program, exec.Path)
	}
	for name, argv := range map[string][]string{"none": nil, "empty": {""}, "NUL": {"true", "\x00"},
		"long": {"true", strings.Repeat("x", 1<<18)}, "many": make([]string, 5000)} {
		_, err := Start(t.Context(), Config{}, argv...)
		var config *ErrConfig
		require.ErrorAs(t, err, &config, name)
		require.Equal(t, "argv", config.Field)
	}
	p, err := Start(t.Context(), Config{}, "printf", "%s|", "a b", "", "c'd")
	require.NoError(t, err)
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, "a b||c'd|", string(r.Stdout))
}
