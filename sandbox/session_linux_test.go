package sandbox

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/stretchr/testify/require"
)

// Classes E and G: sessions.

// opened is a session that is closed at the end of the test.
func opened(t *testing.T, c Config) *Session {
	t.Helper()
	s, err := NewSession(background(t), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// do runs a command that is expected to be run.
func do(t *testing.T, s *Session, command string) ExecResult {
	t.Helper()
	r, err := s.Exec(background(t), command)
	require.NoError(t, err, "%s", command)
	return r
}

// says is what a command writes to stdout.
func says(t *testing.T, s *Session, command string) string {
	t.Helper()
	r := do(t, s, command)
	require.Empty(t, string(r.Stderr), command)
	return string(r.Stdout)
}

func TestSessionState(t *testing.T) {
	s := opened(t, Config{})
	require.GreaterOrEqual(t, s.Level(), LevelNamespaces)
	r := do(t, s, "cd /tmp; x=1; declare -A m=([k]=v); f() { echo f$1; }; echo out; echo err >&2; (exit 3)")
	require.Equal(t, 3, r.ExitCode)
	require.Equal(t, "/tmp", r.Dir)
	require.Equal(t, "out\n", string(r.Stdout))
	require.Equal(t, "err\n", string(r.Stderr))
	require.Equal(t, "3 1 v /tmp f2\n", says(t, s, "echo $? $x ${m[k]} $PWD $(f 2)"))
	require.Equal(t, "/workspace", do(t, s, "cd - >/dev/null").Dir)
	require.Equal(t, "sandbox 1000\n", says(t, s, "echo $(uname -n) $(id -u)"))
}

func TestSessionExitCodes(t *testing.T) { // 107
	s := opened(t, Config{})
	for command, want := range map[string]ExecResult{
		"true":                       {},
		"(exit 255)":                 {ExitCode: 255},
		"nosuchcommand":              {ExitCode: 127},
		"/etc/passwd":                {ExitCode: 126},
		"bash -c 'kill -9 $$'":       {ExitCode: 137, Signal: "SIGKILL"},
		"bash -c 'kill -SEGV $$'":    {ExitCode: 139, Signal: "SIGSEGV"},
		"false | true":               {},
		"(set -o pipefail; false|:)": {ExitCode: 1},
	} {
		r := do(t, s, command)
		require.Equal(t, want.ExitCode, r.ExitCode, command)
		require.Equal(t, want.Signal, r.Signal, command)
		require.Positive(t, r.Duration)
	}
}

// 85, 86, 87: what spoils a shell for one command does not for the next.
func TestSessionSurvives(t *testing.T) {
	for _, tc := range []struct {
		command string
		code    int // -1 for any
	}{
		{"PS1= PS2= PS4= PROMPT_COMMAND=", 0},
		{"unset PROMPT_COMMAND PS1", 0},
		{"exec 1>&-; exec 2>&-; exec 0<&-", 0},
		{"exec >/tmp/log 2>&1", 0},
		{"exec 3>/tmp/3 9>/tmp/9 10>/tmp/10", 0},
		{"set -u; echo $nope", 1},
		{"unset PWD DIRSTACK; set -u", 0},
		{"set -o noglob -o noclobber -o posix", 0},
		{"set -xv", 0},
		{"trap 'echo dbg' DEBUG", 0},
		{"trap 'echo err' ERR; false", 1},
		{"trap 'echo exit' EXIT", 0},
		{"trap '' INT TERM HUP QUIT TSTP CHLD", 0},
		{"echo 'unterminated", 2},
		{"echo $(", 2},
		{"if true; then", 2},
		{"cat <<END\nabc", 0},
		{"break", 0}, {"break 5", 0}, {"while :; do break 7; done", 0},
		{"continue", 0}, {"continue 3", 0},
		{"return 3", 2},
		{"}", 2}, {"fi", 2}, {")", 2},
		{"# nothing", 0}, {"\ntrue\n\n", 0},
		{"IFS=0123456789", 0},
		{"LC_ALL=xx_YY; LANG=zz", 0},
		{"alias eval=false builtin=false read=false while=false; shopt -s expand_aliases", 0},
		{"eval() { :; }; printf() { :; }; read() { :; }; exit() { :; }", 0},
		{"shopt -s extdebug; shopt -u checkwinsize; shopt -s failglob nullglob nocasematch", 0},
		{"stty raw -echo; stty 0", -1},
		{"stty intr ^A susp ^B", 0},
		{"printf '\\e[6n\\ec\\033(0'; printf '\\023' >/dev/tty", 0},
		{"kill -WINCH $$; kill -CONT $$; kill -USR1 0 & wait", -1},
		{"ulimit -f 0", 0},
		{"umask 777", 0},
		{"chmod 0 /tmp /home/user; cd /proc/self/fd", 0},
		{"mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone", 0},
		{"readonly PROMPT_COMMAND", 0},
		{"PATH=/nowhere", 0},
		{"hash -r; enable -n true", 0},
		{"HOME=; TERM=nonsense; COLUMNS=0 LINES=0", 0},
		{"__lm_status=x __lm_left=y", 0},
	} {
		t.Run(strings.ReplaceAll(tc.command, "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := opened(t, Config{})
			r := do(t, s, tc.command)
			if tc.code >= 0 {
				require.Equal(t, tc.code, r.ExitCode, "%s", r.Stderr)
			}
			for i := range 3 {
				r := do(t, s, fmt.Sprintf("\\echo alive%d; test -t 0 || \\echo no terminal", i))
				require.NotContains(t, string(r.Stdout), "no terminal")
				require.Contains(t, string(r.Stdout), fmt.Sprintf("alive%d\n", i), "stderr %q", r.Stderr)
			}
		})
	}
}

// 86: what ends a shell is told as such, by this command and by all later ones.
func TestSessionEnds(t *testing.T) {
	for command, want := range map[string]ErrShellExited{
		"echo last; exit 7":                        {ExitCode: 7},
		"echo last; kill -9 $$":                    {ExitCode: 137, Signal: "SIGKILL"},
		"echo last; set -e; false; echo not":       {ExitCode: 1},
		"echo last; exec bash -c 'exit 5'":         {ExitCode: 5},
		"echo last; exec >&2; logout 2>&-; exit 4": {ExitCode: 4},
		"trap 'exit 9' EXIT; echo last; exit 3":    {ExitCode: 9},
		"echo last; exec 252>&-":                   {ExitCode: 1},
		"echo last; trap 'exit 6' DEBUG; :":        {ExitCode: 6},
	} {
		t.Run(strings.ReplaceAll(command, "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := opened(t, Config{})
			do(t, s, "sleep 300 &")
			r, err := s.Exec(background(t), command)
			var exited *ErrShellExited
			require.ErrorAs(t, err, &exited)
			require.Equal(t, want, *exited)
			require.Equal(t, "last\n", string(r.Stdout))
			_, err = s.Exec(background(t), "true")
			require.ErrorAs(t, err, &exited)
			require.Equal(t, want, *exited)
			require.ErrorAs(t, s.Wait(), &exited)
			_, err = s.Write([]byte("x"))
			require.ErrorAs(t, err, &exited)
			require.ErrorAs(t, s.Resize(1, 1), &exited)
			require.ErrorAs(t, s.Signal(2), &exited)
			require.NoError(t, s.Close())
			_, err = s.Exec(background(t), "true")
			require.ErrorIs(t, err, os.ErrClosed)
		})
	}
}

func TestSessionBackground(t *testing.T) {
	s := opened(t, Config{})
	mark := marked(t, 300)
	noise := "(while :; do echo noise; echo noise >&2; sleep 0.01; done) & "
	do(t, s, noise+"sleep "+mark+" &")
	seen(t, mark)
	for range 20 {
		require.Equal(t, "own\n", says(t, s, "echo own; sleep 0.01"))
	}
	require.Contains(t, says(t, s, "jobs -r"), "sleep "+mark)
	require.NoError(t, s.Close())
	require.Empty(t, holders(t, mark), "Close returns when the last process is gone")
}

// The pipes of a command are there as long as what it has put into the background.
func TestSessionManyInBackground(t *testing.T) {
	s := opened(t, Config{})
	for range 40 {
		do(t, s, "sleep 300 &")
	}
	require.Equal(t, "40\n", says(t, s, "jobs -r | wc -l"))
}

func TestSessionServer(t *testing.T) {
	s := opened(t, Config{})
	do(t, s, "echo page > index.html; python3 -u -m http.server 8000 & until 2>/dev/null exec {c}<>/dev/tcp/127.0.0.1/8000; do sleep 0.05; done")
	for range 3 { // it logs to the pipe of a command that has ended long ago
		require.Equal(t, "page\n", says(t, s, `python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8000/").read().decode(), end="")'`))
	}
}

func TestSessionContext(t *testing.T) { // 87, 105
	s := opened(t, Config{})
	deaf, ended := opened(t, Config{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // for 5 s after its end, beside the rest
		_, err := deaf.Exec(ctx, "trap '' INT; echo ready >/dev/tty; while :; do sleep 0.01; done")
		ended <- err
	}()
	watch(t, deaf).expect("ready\r\n")
	cancel()
	screen := watch(t, s)
	cancelled := func(command string, within time.Duration) ExecResult { // once it says on the terminal that it is ready
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var r ExecResult
		done := make(chan error, 1)
		go func() {
			var err error
			r, err = s.Exec(ctx, command)
			done <- err
		}()
		screen.expect("ready\r\n")
		time.Sleep(100 * time.Millisecond) // it is at it then, as a rule
		begin := time.Now()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Less(t, time.Since(begin), 5*within)
		return r
	}
	for _, command := range []string{
		"sleep 300", "sleep 300; echo not this", "for i in 1 2 3; do sleep 100; done", "while :; do :; done", "read x", "cat",
		"sleep 300 | cat", "(sleep 300; sleep 300)", "$(sleep 300)", "bash -c 'while :; do :; done'", "cat < <(sleep 300)",
		"sleep 300 & wait", "stty -isig; cat", "yes >/dev/null", "python3 -c 'import time; time.sleep(300)'",
	} {
		t.Run(strings.ReplaceAll(command, "/", "|"), func(t *testing.T) {
			r := cancelled("echo some; echo ready >/dev/tty; "+command, time.Second)
			require.Equal(t, "some\n", string(r.Stdout))
			require.Equal(t, "alive\n", says(t, s, "echo alive"))
		})
	}
	t.Run("deaf", func(t *testing.T) {
		r := cancelled("bash -c 'trap \"\" INT TERM; echo ready >/dev/tty; while :; do sleep 0.1; done'; bash -c 'trap \"\" INT; sleep 300'", 2*time.Second)
		require.Equal(t, "SIGKILL", r.Signal)
		require.Equal(t, "alive\n", says(t, s, "echo alive"))
	})
	t.Run("cleans up", func(t *testing.T) { // what it starts for that is not interrupted again
		r := cancelled(`exec 3>&1; python3 -c '
import subprocess, time
try: print("up", flush=True); open("/dev/tty", "w").write("ready\n"); time.sleep(300)
except KeyboardInterrupt: time.sleep(0.1); print(subprocess.run(["sleep", "0.3"]).returncode)'`, time.Second)
		require.Equal(t, "up\n0\n", string(r.Stdout))
	})
	t.Run("without job control", func(t *testing.T) { // the command is in the shell's own group
		do(t, s, "set +m; sleep 300 & old=$!; sleep 0.1")
		cancelled("(trap '' INT; echo ready >/dev/tty; sleep 300; sleep 300)", 2*time.Second)
		require.Equal(t, "alive\n", says(t, s, "echo alive; kill $old; set -m"))
	})
	atAnyMoment := func(command string) func(*testing.T) {
		return func(t *testing.T) {
			for d := time.Duration(0); d < 5*time.Millisecond; d += 100 * time.Microsecond {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				_, err := s.Exec(ctx, command)
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, "alive\n", says(t, s, "echo alive"))
			}
		}
	}
	t.Run("while a pipeline starts", atAnyMoment("sleep 300 | sleep 300"))
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Exec(ctx, "touch /tmp/never")
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, do(t, s, "test -e /tmp/never").ExitCode)
		_, err = NewSession(ctx, Config{})
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("at any moment", atAnyMoment("sleep 300"))
	t.Run("while a program starts", func(t *testing.T) { // and does not feel the first SIGINT: one of seven
		killed := 0
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*25*time.Microsecond)
			r, err := s.Exec(ctx, "sleep 300")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			if r.Signal == "SIGKILL" {
				killed++
			}
		}
		require.Less(t, killed, 3, "it is interrupted once more")
	})
	t.Run("start at any moment", func(t *testing.T) {
		for d := time.Duration(0); d < 20*time.Millisecond; d += time.Millisecond {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if s, err := NewSession(ctx, Config{}); err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			} else {
				require.NoError(t, s.Close())
			}
			cancel()
		}
	})
	t.Run("its context is the start's", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := NewSession(ctx, Config{})
		require.NoError(t, err)
		cancel()
		require.Equal(t, "alive\n", says(t, s, "echo alive"))
		require.NoError(t, s.Close())
	})
	t.Run("another program in the shell's place", func(t *testing.T) {
		s := opened(t, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := s.Exec(ctx, `exec bash -c 'trap "" INT; echo ready >/dev/tty; while :; do sleep 0.1; done'`)
			done <- err
		}()
		watch(t, s).expect("ready\r\n")
		cancel()
		err := <-done
		require.ErrorIs(t, err, context.Canceled)
		var exited *ErrShellExited
		require.ErrorAs(t, err, &exited)
		require.Equal(t, "SIGKILL", exited.Signal)
	})
	t.Run("a deaf shell", func(t *testing.T) {
		err := <-ended
		require.ErrorIs(t, err, context.Canceled)
		var exited *ErrShellExited
		require.ErrorAs(t, err, &exited)
		require.Equal(t, "SIGKILL", exited.Signal)
	})
}

func TestSessionLimits(t *testing.T) {
	t.Run("wall", func(t *testing.T) {
		s := opened(t, Config{Limits: Limits{Wall: 3 * time.Second}})
		r := do(t, s, "echo some; sleep 300")
		require.Equal(t, LimitTimeout, r.Limit)
		require.Equal(t, "some\n", string(r.Stdout))
		time.Sleep(4 * time.Second) // it is the time of a command, not of the session
		r = do(t, s, "echo alive")
		require.Equal(t, LimitNone, r.Limit)
	})
	t.Run("output", func(t *testing.T) {
		s := opened(t, Config{Limits: Limits{Output: 1000}})
		r := do(t, s, "head -c 3000000 /dev/zero; head -c 1000 /dev/zero >&2")
		require.Len(t, r.Stdout, 1000)
		require.True(t, r.StdoutTruncated)
		require.Len(t, r.Stderr, 1000)
		require.False(t, r.StderrTruncated)
		require.Equal(t, LimitNone, r.Limit)
	})
	t.Run("stop at output", func(t *testing.T) {
		s := opened(t, Config{Limits: Limits{Output: 1000}, StopAtOutput: true})
		r := do(t, s, "yes")
		require.Len(t, r.Stdout, 1000)
		require.Equal(t, LimitOutput, r.Limit)
		require.Equal(t, "alive\n", says(t, s, "echo alive"))
	})
	t.Run("memory", func(t *testing.T) {
		s := opened(t, Config{Limits: Limits{Memory: 64 << 20}})
		_, err := s.Exec(background(t), "x=$(head -c 200000000 /dev/zero | tr '\\0' x)")
		var exited *ErrShellExited
		require.ErrorAs(t, err, &exited)
		require.Equal(t, ErrShellExited{ExitCode: 137, Signal: "SIGKILL", Limit: LimitMemory}, *exited)
	})
	t.Run("disk", func(t *testing.T) { // a full one can be cleared
		s := opened(t, Config{Limits: Limits{Disk: 1 << 20}})
		require.NotEqual(t, 0, do(t, s, "head -c 3000000 /dev/zero > /tmp/big").ExitCode)
		require.NotEqual(t, 0, do(t, s, "for i in {1..9999}; do : >/tmp/f$i || exit_code=$?; done; (exit $exit_code)").ExitCode)
		require.Equal(t, 0, do(t, s, "rm /tmp/*").ExitCode)
	})
	t.Run("pids", func(t *testing.T) { // bash tries again for 15 s when it cannot fork
		s := opened(t, Config{Limits: Limits{Pids: 10}})
		do(t, s, "for i in {1..7}; do sleep 300 & done")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := s.Exec(ctx, "(sleep 1; sleep 300) | cat | cat | cat")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	for field, c := range map[string]Config{
		"Stdin": {Stdin: strings.NewReader("")}, "Env[PROMPT_COMMAND]": {Env: map[string]string{"PROMPT_COMMAND": "x"}},
		"Limits.Files": {Limits: Limits{Files: 100}}, "Limits.Wall": {Limits: Limits{Wall: -1}}, "Dir": {Dir: "/nowhere"},
	} {
		_, err := NewSession(t.Context(), c)
		var config *ErrConfig
		require.ErrorAs(t, err, &config)
		require.Equal(t, field, config.Field)
	}
}

func TestSessionInLine(t *testing.T) { // 105
	s := opened(t, Config{})
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			r, err := s.Exec(t.Context(), fmt.Sprintf("n=%d; sleep 0.01; echo $n; echo $n >&2; (exit $n)", i))
			if err != nil || r.ExitCode != i || string(r.Stdout) != fmt.Sprintln(i) || string(r.Stderr) != fmt.Sprintln(i) {
				t.Errorf("%d: %+v %v", i, r, err)
			}
		})
	}
	group.Wait()
	group.Go(func() { _, _ = s.Exec(t.Context(), "sleep 300") })
	require.Eventually(t, func() bool { return len(s.impl.turn) == 1 }, patience, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Exec(ctx, "true")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	group.Go(func() {
		if _, err := s.Exec(t.Context(), "true"); err == nil {
			t.Error("a closed session has run a command")
		}
	})
	require.NoError(t, s.Close())
	group.Wait()
}

func init() {
	roles["session"] = func() {
		s, err := NewSession(context.Background(), Config{})
		if err == nil {
			_, err = s.Exec(context.Background(), os.Getenv("LM_SANDBOX_TEST_COMMAND"))
		}
		fmt.Println(err)
	}
}

func TestSessionCallerKilled(t *testing.T) { // 70
	mark := marked(t, 300)
	c := again("session", fmt.Sprintf("LM_SANDBOX_TEST_COMMAND=trap '' TERM HUP; setsid sleep %s & sleep %s & sleep %s", mark, mark, mark))
	require.NoError(t, c.Start())
	require.Eventually(t, func() bool { return len(holders(t, mark)) >= 3 }, patience, 5*time.Millisecond)
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
	gone(t, mark)
}

func TestSessionHelperKilled(t *testing.T) {
	s := opened(t, Config{})
	mark := marked(t, 300)
	do(t, s, "sleep "+mark+" &")
	require.NoError(t, s.impl.process.cmd.Process.Kill())
	var setup *ErrSetup
	require.ErrorAs(t, s.Wait(), &setup)
	_, err := s.Exec(background(t), "true")
	require.ErrorAs(t, err, &setup)
	gone(t, mark)
}

// An order that makes no sense ends the sandbox; a lost one leaves nothing hanging.
func TestSessionGarbageToHelper(t *testing.T) {
	frame := func(kind proto.Kind, length uint32, body string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(kind))
		return append(binary.LittleEndian.AppendUint32(b, length), body...)
	}
	for name, frame := range map[string][]byte{
		"unknown":         frame(15, 0, ""),
		"too long":        frame(proto.KindOpen, 1<<16, ""),
		"long signal":     frame(proto.KindSignal, 200, strings.Repeat("\x00", 200)),
		"path for a name": frame(proto.KindStreams, 32, "../../../../../../../../tmp/xxxxx"[:32]),
		"short name":      frame(proto.KindStreams, 4, "name"),
		"no path":         frame(proto.KindOpen, 8, "flagmode"),
		"relative path":   frame(proto.KindOpen, 11, "flagmodeetc"),
		"NUL in a path":   frame(proto.KindOpen, 11, "flagmode/\x00c"),
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, Config{})
			_, err := s.impl.process.control.Write(frame)
			require.NoError(t, err)
			require.Error(t, s.Wait())
		})
	}
}

// 78: after many sessions, ended in several ways, the host is as before.
func TestSessionNoLeaks(t *testing.T) {
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		return len(entries)
	}
	some := func() {
		for _, command := range []string{"sleep 300 & echo x", "exit", "kill -9 $$", "exec cat <&-"} {
			s, err := NewSession(t.Context(), Config{})
			require.NoError(t, err)
			_, _ = s.Exec(t.Context(), command) // ends as it may
			require.NoError(t, s.Close())
		}
		_, err := NewSession(t.Context(), Config{Dir: "/nowhere"})
		require.Error(t, err)
	}
	some()
	before := count("/proc/self/fd")
	for range 10 {
		some()
	}
	require.Eventually(t, func() bool { return count("/proc/self/fd") <= before }, patience, time.Millisecond)
	s := opened(t, Config{})
	do(t, s, "true")
	before = count("/proc/self/fd")
	for range 200 {
		do(t, s, "ls >/dev/null")
	}
	require.Eventually(t, func() bool { return count("/proc/self/fd") <= before }, patience, time.Millisecond)
	require.Equal(t, "9\n", says(t, s, "f=(/proc/self/fd/*); echo ${#f[@]}"), "0, 1, 2, their copies, the terminal, the socket, the directory")
}

// 87, 100: commands of any shape reach the shell whole.
func TestSessionCommands(t *testing.T) {
	s := opened(t, Config{})
	long := strings.Repeat("long ", 12000)
	for _, text := range []string{"x", long, "\xff\xfe", "\xe2", "\xe2\x82", "é€😀", strings.Repeat("é", 10000), "\x01\x7f\x1b[6n\r\t", "P", " ", "\\", "{1..3}", "~", "*", "$x `y` \"z\" !!"} {
		r := do(t, s, "printf %s '"+text+"'")
		require.Equal(t, text, string(r.Stdout))
		r = do(t, s, "printf %s '"+text+"' # "+text)
		require.Equal(t, text, string(r.Stdout))
	}
	require.Equal(t, "1\n2\n", says(t, s, "\n\necho 1\n# no\necho \\\n2\n\n"))
	require.Equal(t, strings.Repeat("x", 1<<20), says(t, s, "head -c 1048576 /dev/zero | tr '\\0' x"))
	for _, tc := range []struct{ command, reason string }{
		{"", "empty"}, {" \n", "empty"}, {"a\x00b", "contains a NUL byte"}, {strings.Repeat("x", 1<<20), "1048576 bytes, "},
	} {
		_, err := s.Exec(t.Context(), tc.command)
		var config *ErrConfig
		require.ErrorAs(t, err, &config)
		require.Contains(t, config.Reason, tc.reason)
	}
}

func FuzzSessionReport(f *testing.F) {
	for _, text := range []string{"", "nonce 0 r /dir", " 130 p /a b\nc", " 1 x /", "a b c d", "n -9223372036854775809 r /"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseReport(text)
		if !ok {
			return
		}
		letter := map[shellState]string{shellReady: "r", shellPrompt: "p"}[r.state]
		again, ok := parseReport(fmt.Sprintf("%s %d %s %s", r.nonce, r.status, letter, r.dir))
		require.True(t, ok)
		require.Equal(t, r, again)
	})
}

// Interrupts that come at any moment cost a command its life at most: none is lost,
// run twice or taken for another.
func TestSessionInterruptedAnytime(t *testing.T) {
	s := opened(t, Config{})
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				_ = s.Signal(syscall.SIGINT)
			}
		}
	})
	long := " # " + strings.Repeat("long ", 200)
	for i := range 200 {
		r := do(t, s, fmt.Sprintf("n=%d; echo $n >> /tmp/log; echo $n%s", i, long))
		if r.ExitCode == 0 {
			require.Equal(t, fmt.Sprintln(i), string(r.Stdout))
		} else {
			require.Equal(t, 130, r.ExitCode)
		}
	}
	close(stop)
	group.Wait()
	require.Empty(t, says(t, s, "sort -n /tmp/log | uniq -d"))
}

// A session whose processes are used up comes to an end that is told.
func TestSessionForkBomb(t *testing.T) {
	s := opened(t, Config{Limits: Limits{Pids: 64}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	_, err := s.Exec(ctx, "bomb() { bomb | bomb & }; bomb; while :; do :; done")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begin), 5*(killPatience+time.Second))
	require.NoError(t, s.Close())
}
