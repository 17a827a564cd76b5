package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Class E: the terminal of a session.

// screen is what the terminal has shown.
type screen struct {
	t     *testing.T
	s     *Session
	mu    sync.Mutex
	text  string
	seen  int // what has been expected already
	ended chan error
}

func watch(t *testing.T, s *Session) *screen {
	c := &screen{t: t, s: s, ended: make(chan error, 1)}
	go func() {
		buf := make([]byte, 1000)
		for {
			n, err := s.Read(buf)
			c.mu.Lock()
			c.text += string(buf[:n])
			c.mu.Unlock()
			if err != nil {
				c.ended <- err
				return
			}
		}
	}()
	return c
}

// expect waits until the terminal shows text, after what was expected before.
func (c *screen) expect(text string) {
	c.t.Helper()
	found := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := strings.Index(c.text[c.seen:], text)
		if i >= 0 {
			c.seen += i + len(text)
		}
		return i >= 0
	}
	for end := time.Now().Add(patience); !found(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.mu.Lock()
			defer c.mu.Unlock()
			require.Failf(c.t, "not on the terminal", "%q after %q", text, c.text[c.seen:])
		}
	}
}

func (c *screen) typed(text string) {
	c.t.Helper()
	_, err := c.s.Write([]byte(text))
	require.NoError(c.t, err)
}

func TestSessionTerminal(t *testing.T) {
	s := opened(t, Config{})
	require.Equal(t, "/dev/pts/0\n24 80\n", says(t, s, "tty; stty size"))
	require.Equal(t, "yes no no\n", says(t, s, `for i in 0 1 2; do test -t $i && echo yes || echo no; done | xargs`))
	require.NoError(t, s.Resize(50, 132))
	require.Equal(t, "50 132\n", says(t, s, "stty size"))
	require.Equal(t, "got WINCH\n", says(t, s, `bash -c 'trap "echo got WINCH" WINCH; stty rows 30; :'`))
	require.Equal(t, "user tty\n", says(t, s, `stat -c '%U' /dev/pts/0 | xargs echo -n; echo x >/dev/tty && echo " tty"`))
	require.Contains(t, says(t, s, "ls /dev/pts"), "0\n")
	require.NotContains(t, says(t, s, "ls /dev/pts"), "1\n")
	require.NoError(t, s.Signal(syscall.SIGURG))
	require.Error(t, s.Signal(0))
	require.Error(t, s.Signal(65))
}

func TestSessionJobs(t *testing.T) {
	s := opened(t, Config{})
	require.Equal(t, "sleep 1\n0\n", says(t, s, "sleep 1 & fg; echo $?"))
	// Ctrl-Z stops the command of an Exec, and the next one goes on with it.
	stopped := make(chan ExecResult, 1)
	sleep, running := sleeper(t)
	go func() {
		r, _ := s.Exec(context.Background(), sleep+"; true")
		stopped <- r
	}()
	running()
	_, err := s.Write([]byte("\x1a"))
	require.NoError(t, err)
	require.Equal(t, 148, (<-stopped).ExitCode)
	require.Contains(t, says(t, s, "jobs"), "Stopped")
	do(t, s, `p=$(jobs -p %1); (until grep -q '^State:.[RS]' /proc/$p/status; do :; done; kill $p) &`)
	require.Equal(t, "143\n", says(t, s, "fg %1 >/dev/null; echo $?"))
	do(t, s, "wait")
	do(t, s, "ls /; sleep 0.01 & wait")
	require.Equal(t, "", says(t, s, "jobs"), "what is done is forgotten")
	require.Equal(t, "3\n", says(t, s, "(exit 3) & wait $!; echo $?"))
	do(t, s, "(exit 4) &")
	require.Equal(t, "4\n", says(t, s, "wait $!; echo $?"))
	require.Equal(t, "1\n", says(t, s, "sleep 300 & kill %1; jobs | wc -l"))
}

// sleeper is a command that waits, and the way to know that it does. Between its
// fork and its exec bash may lose a signal, so looking at the terminal is not enough.
func sleeper(t *testing.T) (command string, running func()) {
	mark := marked(t, 300)
	return "sleep " + mark, func() {
		t.Helper()
		seen(t, mark)
	}
}

func TestSessionInput(t *testing.T) { // 88
	s := opened(t, Config{})
	screen := watch(t, s)
	type outcome struct {
		r   ExecResult
		err error
	}
	run := func(command, keys string, running func()) ExecResult {
		t.Helper()
		done := make(chan outcome, 1)
		go func() {
			r, err := s.Exec(context.Background(), "echo ready >/dev/tty; "+command)
			done <- outcome{r, err}
		}()
		screen.expect("ready\r\n")
		if running != nil {
			running()
		}
		screen.typed(keys)
		o := <-done
		require.NoError(t, o.err)
		return o.r
	}
	require.Equal(t, "got hello\n", string(run("read x; echo got $x", "hello\n", nil).Stdout))
	require.Equal(t, "a\nb\n", string(run("cat", "a\nb\n\x04", nil).Stdout))
	for keys, want := range map[string]string{"\x03": "SIGINT", "\x1c": "SIGQUIT"} {
		sleep, running := sleeper(t)
		r := run(sleep+"; (exit $?)", keys, running)
		require.Equal(t, want, r.Signal)
	}
	require.Equal(t, "xx", string(run("read -sn2 x; echo -n $x", "xx", nil).Stdout))
	require.Equal(t, 9, run("read line; (exit $line)", strings.Repeat("0", 3000)+"9\n", nil).ExitCode)
}

func TestSessionPrompt(t *testing.T) {
	s := opened(t, Config{})
	screen := watch(t, s)
	require.Equal(t, 0, do(t, s, "x=outer; cd /tmp").ExitCode)
	screen.typed("")
	screen.expect("/tmp$ ")
	screen.typed("echo $x; tty; false\r")
	screen.expect("\nouter\r\n/dev/pts/0\r\n")
	screen.expect("/tmp$ ")
	screen.typed("echo status $?; x=inner; cd /\r")
	screen.expect("\nstatus 1\r\n")
	screen.expect("/$ ")
	for range 5 { // Exec takes the shell from its prompt and gives it back
		r := do(t, s, "echo $x; true")
		require.Equal(t, "inner\n", string(r.Stdout))
		require.Equal(t, "/", r.Dir)
		screen.expect("/$ ")
	}
	sleep, running := sleeper(t)
	screen.typed(sleep + "\r")
	running()
	screen.typed("\x03")
	screen.expect("/$ ")
	sleep, running = sleeper(t)
	screen.typed(sleep + "\r")
	running()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Exec(ctx, "true")
	require.ErrorIs(t, err, context.DeadlineExceeded, "what was typed is not disturbed")
	require.NoError(t, s.Signal(syscall.SIGTERM))
	screen.expect("/$ ")
	screen.typed("cat > /tmp/doc <<X\rone\r") // in the middle of a command
	screen.expect("> ")
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
	screen.expect("/$ ")
	screen.typed("exit 3\r")
	require.ErrorIs(t, <-screen.ended, io.EOF)
	var exited *ErrShellExited
	require.ErrorAs(t, s.Wait(), &exited)
	require.Equal(t, 3, exited.ExitCode)
}

// What is typed at the prompt can take the driver's place; Exec comes back all the same.
func TestSessionPromptSpoilt(t *testing.T) {
	for _, line := range []string{"PROMPT_COMMAND=", "trap 'echo int' INT", "trap '' INT; PROMPT_COMMAND=", "PS1=", "set -o vi", "set -u", "set -x",
		"stty -echo", "bind -x '\"\\C-u\": echo no'", "break", "trap 'echo debug' DEBUG"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s := opened(t, Config{})
			screen := watch(t, s)
			screen.typed("")
			screen.expect("/workspace$ ")
			screen.typed(line + "\r")
			screen.typed("echo do''ne\r")
			screen.expect("done\r\n")
			for range 2 {
				require.Contains(t, string(do(t, s, "echo alive").Stdout), "alive\n")
			}
		})
	}
}

// What has been typed may not be a prompt's to read, nor end: an Exec waits as long as its ctx.
func TestSessionTerminalFull(t *testing.T) {
	s := opened(t, Config{})
	screen := watch(t, s)
	screen.typed("")
	screen.expect("$ ")
	screen.typed("trap '' INT; stty raw -echo; echo lo''op; while :; do :; done\r")
	screen.expect("\nloop\n")
	ended := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 1<<20)) // more than the terminal takes
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	_, err := s.Exec(ctx, "true")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begin), 5*time.Second)
	require.NoError(t, s.Close())
	require.Error(t, <-ended)
}

func TestSessionReplaced(t *testing.T) {
	s := opened(t, Config{})
	screen := watch(t, s)
	screen.typed("")
	screen.expect("$ ")
	screen.typed("exec cat\r")
	screen.expect("\n")
	var exited *ErrShellExited
	_, err := s.Exec(background(t), "true")
	require.ErrorAs(t, err, &exited)
	require.True(t, exited.Replaced)
	screen.typed("echoed\r") // the terminal still works
	screen.expect("echoed\r\nechoed\r\n")
}

// 85: programs that a command starts have no way to the side channel.
func TestSessionForgery(t *testing.T) {
	s := opened(t, probed(Config{}))
	require.Equal(t, "0\n1\n2\n3\n", says(t, s, "ls /proc/self/fd"))
	require.Equal(t, "0\n1\n2\n3\n", says(t, s, "bash -c 'ls /proc/self/fd'"))
	// The shell and its subshells are private: neither files nor memory are to be had, whatever Yama says.
	for _, command := range []string{"%s", "(%s; true)", "trap '%s; true' USR1; kill -USR1 $$"} {
		for _, way := range []string{"exec <>/proc/$PPID/mem", "exec >/proc/$PPID/fd/252", "cd /proc/$PPID/cwd", "exec </proc/$PPID/environ"} {
			r := do(t, s, fmt.Sprintf(command, `bash -c "`+strings.ReplaceAll(way, "$", `\$`)+` && echo open"`))
			require.Empty(t, string(r.Stdout), way)
			require.Contains(t, string(r.Stderr), "Permission denied", way)
		}
	}
	require.Equal(t, "1\n", says(t, s, "cat /dev/fd/3 3< <(echo 1 >/dev/stdout)"), "its own files are its own")
	require.Contains(t, string(do(t, s, "exec 5</proc/self/exe; chmod 755 /proc/$$/exe").Stderr), "Permission denied")
	require.Equal(t, "EPERM", says(t, s, "/opt/probe pidfd_getfd $$ | tr -d '\\n'"))
	// A marker, or a report, in the output is output.
	forged := "__END__ 0\\0 00000000000000000000000000000000 0 r /forged\\0"
	r := do(t, s, "printf '"+forged+"'; printf '"+forged+"' >/dev/tty; false")
	require.Equal(t, 1, r.ExitCode)
	require.Equal(t, "/workspace", r.Dir)
	// One that does not know the nonce reports nothing, even from the shell's own text.
	r = do(t, s, "printf '%s 0 r /forged\\0garbage\\0' deadbeef >&252; (exit 7)")
	require.Equal(t, 7, r.ExitCode)
	require.Equal(t, "/workspace", r.Dir)
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
	// The pipes of a command cannot be removed, made or listed by its kind.
	require.Equal(t, 0, do(t, s, "ls /run/session 2>/dev/null && exit 1; : >/run/session/x 2>/dev/null && exit 1; true").ExitCode)
}

// Nothing stands still because nobody reads the terminal.
func TestSessionUnwatched(t *testing.T) {
	s := opened(t, Config{})
	require.Equal(t, "done\n", says(t, s, "yes 0123456789 | head -c 3000000 >/dev/tty; echo done"))
	buf := make([]byte, 1<<20)
	n, err := s.Read(buf)
	require.NoError(t, err)
	require.Greater(t, n, 1000)
	require.LessOrEqual(t, n, terminalBacklog)
	n, err = s.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// And nothing is lost when somebody does, however slowly.
func TestSessionSlowReader(t *testing.T) {
	s := opened(t, Config{})
	done := make(chan int, 1)
	go func() {
		total, buf := 0, make([]byte, 7777)
		for {
			n, err := s.Read(buf)
			total += n
			if err != nil {
				done <- total
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond)
	_, err := s.Exec(background(t), "stty raw; head -c 3000000 /dev/zero >/dev/tty; exit")
	var exited *ErrShellExited
	require.ErrorAs(t, err, &exited)
	require.GreaterOrEqual(t, <-done, 3000000)
}

func TestSessionCloseUnblocks(t *testing.T) { // 105
	s, err := NewSession(t.Context(), Config{})
	require.NoError(t, err)
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(io.Discard, s)
		ended <- err
	}()
	do(t, s, "stty -icanon; sleep 300 &")
	go func() {
		var err error
		for err == nil { // nobody reads it: the terminal fills up
			_, err = s.Write(make([]byte, 1<<10))
		}
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	for range 2 {
		err := <-ended
		require.True(t, err == nil || errors.Is(err, ErrClosed), err) // nil is what io.Copy makes of io.EOF
	}
	require.ErrorIs(t, s.Wait(), ErrClosed)
}

// A command that is given the socket by its own shell harms its session at most.
func TestSessionChannelAbused(t *testing.T) {
	mem := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.Sys
	}
	before := mem()
	for command, ends := range map[string]bool{
		"head -c 300000000 /dev/zero | tr '\\0' x >&252":                                      true,
		"yes garbage | head -c 30000 >&252":                                                   true,
		"head -c 3000000 /dev/zero >&252":                                                     false,
		"for i in {1..20000}; do printf ' 0 r /x\\0'; done >&252":                             false,
		"for i in {1..2000}; do printf ' 0 p /x\\0'; done >&252":                              false,
		"(printf ' 0 r /x\\0' >&252; read -t 1 -u 252 x)":                                     false,
		"printf '%s -1 r \\0' $__lm_nonce >&252":                                              false,
		"printf '%s 99999999999999999999 r /\\0%s 1 z /\\0%s\\0\\0' $__lm_nonce x y >&252; :": false,
	} {
		t.Run(strings.ReplaceAll(command, "/", "|"), func(t *testing.T) {
			s := opened(t, Config{Limits: Limits{Wall: 2 * time.Second}})
			_, err := s.Exec(background(t), command)
			var exited *ErrShellExited
			require.Equal(t, ends, errors.As(err, &exited), "%v", err)
			if !ends {
				require.NoError(t, err)
				do(t, s, "true") // it may report for itself what it likes
				require.Equal(t, "alive\n", says(t, s, "echo alive"))
			}
		})
	}
	require.Less(t, mem(), before+100<<20)
}

// A shell that has been stopped takes no command, and that is no reason to wait for ever.
func TestSessionStopped(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Workspace: dir, Limits: Limits{Wall: time.Second}})
	screen := watch(t, s)
	do(t, s, `(until test -e go; do sleep 0.01; done; kill -STOP $$; until grep -q '^State:.T' /proc/$$/status; do :; done; echo stopped >/dev/tty) &`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	screen.expect("stopped\r\n")
	begin := time.Now()
	_, err := s.Exec(background(t), "true # "+strings.Repeat("x", 100000))
	require.Less(t, time.Since(begin), 5*(killPatience+time.Second))
	var exited *ErrShellExited
	require.ErrorAs(t, err, &exited)
}

// A shell that takes its time to read a command is not at its prompt: nothing interrupts
// what it has just begun.
func TestSessionSlowShell(t *testing.T) {
	s := opened(t, Config{Limits: Limits{Wall: 10 * time.Second}})
	mark := marked(t, 300)
	do(t, s, "sleep "+mark+" & child=$!")
	seen(t, mark)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", holders(t, mark)[0]))
	require.NoError(t, err)
	_, fields, _ := strings.Cut(string(stat), "(sleep) ")
	var state string
	var shell int
	_, err = fmt.Sscan(fields, &state, &shell)
	require.NoError(t, err)
	for i := range 40 {
		if i == 20 {
			do(t, s, "stty raw -echo") // not readline's
		}
		require.NoError(t, syscall.Kill(shell, syscall.SIGSTOP))
		resumed := make(chan error, 1)
		time.AfterFunc(nudgePatience+time.Duration(i%20)*100*time.Microsecond, func() { resumed <- syscall.Kill(shell, syscall.SIGCONT) })
		r := do(t, s, "for i in {1..3000}; do :; done; echo done")
		require.NoError(t, <-resumed)
		require.Equal(t, "done\n", string(r.Stdout), "%d", i)
		require.Zero(t, r.ExitCode)
	}
	do(t, s, "kill $child; wait")
}

// What keeps a session going is read again after each prompt, whatever words are aliases by then.
func TestSessionAliasedWords(t *testing.T) {
	s := opened(t, Config{})
	do(t, s, `alias while=false do=false done=false for=false eval=false builtin=false :=false __lm_enter=false __lm_next=false return=false '[[=false'`)
	screen := watch(t, s)
	screen.typed("")
	screen.expect("$ ")
	screen.typed("\\echo ty''ped\r")
	screen.expect("typed\r\n")
	require.Equal(t, "alive\n", says(t, s, `\builtin echo alive`))
	require.Equal(t, "alias while='false'\n", says(t, s, `\builtin alias while`), "they are in force for commands")
	require.Equal(t, 1, do(t, s, "eval").ExitCode)
	screen.typed("\\true\r")
	require.Equal(t, "alive\n", says(t, s, `\builtin echo alive`))
}
