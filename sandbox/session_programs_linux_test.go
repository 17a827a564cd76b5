package sandbox

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Class E: programs that people use on a terminal, typed to as they do. They are the
// host's: vim, less, top and python3 must be installed.

// at is the prompt of a session, watched.
func at(t *testing.T, s *Session) *screen {
	t.Helper()
	c := watch(t, s)
	c.typed("")
	c.expect("$ ")
	return c
}

func TestSessionPrograms(t *testing.T) {
	s := opened(t, Config{Env: map[string]string{"TERM": "xterm"}})
	screen := at(t, s)
	// Each step is what is typed and what is shown then.
	for _, tc := range []struct {
		name  string
		steps [][2]string
	}{
		{"read", [][2]string{{"read -p 'name? ' name; echo \"<$name>\"\r", "\rname? "}, {"a b\r", "<a b>\r\n"}}},
		{"python", [][2]string{
			{"python3 -q\r", ">>> "}, {"def f(x):\r", "... "}, {"    return x*7\r\r", ">>> "}, {"f(6)\r", "42\r\n"},
			{"import time; time.sleep(300)\r", "sleep"}, {"\x03", "KeyboardInterrupt"}, {"\x04", "\n"},
		}},
		{"vim", [][2]string{
			{"vim -N -u NONE -i NONE note\r", "[New]"}, {"ifirst line\rsecond", "second"}, {"\x1b:s/second/last/\r", "last"},
			{"yyp:wq\r", "written"},
		}},
		{"vim again", [][2]string{{"vim -N -u NONE -i NONE note\r", "first line"}, {":%s/last/LAST/g | wq\r", "written"}}},
		{"less", [][2]string{{"seq 1000 | less\r", "23"}, {"G", "1000"}, {"?^500\r", "501"}, {"q", ""}}},
		{"top", [][2]string{{"top\r", "load average"}, {"q", ""}}},
		{"a menu", [][2]string{{"select x in one two; do echo \"got $x\"; break; done\r", "#? "}, {"2\r", "got two\r\n"}}},
	} {
		for _, step := range tc.steps {
			screen.typed(step[0])
			screen.expect(step[1])
		}
		screen.expect("$ ")
		screen.typed("echo at the pro''mpt\r")
		screen.expect("at the prompt\r\n")
		screen.expect("$ ")
	}
	require.Equal(t, "first line\nLAST\nLAST\n", says(t, s, "cat note"))
}

// The same programs as the command of an Exec: its stdout is a pipe, the terminal is /dev/tty.
func TestSessionProgramsOfExec(t *testing.T) {
	s := opened(t, Config{Env: map[string]string{"TERM": "xterm"}})
	screen := watch(t, s)
	ended := make(chan ExecResult, 1)
	run := func(command string) {
		go func() {
			r, _ := s.Exec(context.Background(), command)
			ended <- r
		}()
	}
	run("vim -N -u NONE -i NONE note >/dev/tty 2>&1; echo $?")
	screen.expect("[New]")
	screen.typed("ihello\x1b:wq\r")
	require.Equal(t, "0\n", string((<-ended).Stdout))
	require.Equal(t, "hello\n", says(t, s, "cat note"))
	run("python3 -q 2>/dev/tty") // its prompt is on stderr, its answers on stdout
	screen.expect(">>> ")
	screen.typed("6*7\n")
	screen.expect(">>> ")
	screen.typed("\x04")
	require.Contains(t, string((<-ended).Stdout), "42\n")
}

func TestSessionResize(t *testing.T) {
	s := opened(t, Config{Env: map[string]string{"TERM": "xterm"}})
	screen := at(t, s)
	do(t, s, `cat >winch.py <<'END'
import os, signal, time
def show(*_):
    size = os.get_terminal_size(0)
    os.write(1, b"%d %d\n" % (size.lines, size.columns)) # print is not to be called by a handler
signal.signal(signal.SIGWINCH, show)
print("ready", flush=True)
while True: time.sleep(300)
END`)
	screen.typed("python3 winch.py\r")
	screen.expect("ready\r\n")
	for _, size := range [][2]uint16{{40, 100}, {10, 20}, {0, 0}, {65535, 65535}, {24, 80}} {
		require.NoError(t, s.Resize(size[0], size[1]))
		screen.expect(fmt.Sprintf("%d %d\r\n", size[0], size[1]))
	}
	screen.typed("\x03")
	screen.expect("$ ")
	screen.typed("vim -N -u NONE -i NONE -c 'au VimResized * call setline(1, &lines.\"x\".&columns)'\r")
	screen.expect("~")
	require.NoError(t, s.Resize(33, 99))
	screen.expect("33x99")
	screen.typed(":q!\r")
	screen.expect("$ ")
	require.Equal(t, "33 99\n", says(t, s, "stty size"))
}

// 79: what is typed into a session's terminal is its own programs' affair, and no
// program of it can type there itself.
func TestSessionTerminalRequests(t *testing.T) {
	s := opened(t, probed(Config{}))
	for _, request := range []string{"tiocsti", "tiocsti-high", "tioclinux", "tiocsetd"} {
		require.Equal(t, "EPERM\n", says(t, s, "/opt/probe own-"+request), request)
	}
	require.Equal(t, "ok\n", says(t, s, "/opt/probe own-tiocgwinsz"), "the control")
}

// 84: a terminal that is stopped (XOFF) or spoilt holds up those who write to it, and
// neither Exec nor the next command.
func TestSessionTerminalSpoilt(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Workspace: dir})
	screen := at(t, s)
	screen.typed("\x13") // Ctrl-S
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Exec(ctx, "echo ready >/dev/tty; read x; touch held; echo held >/dev/tty; sleep 300")
		ended <- err
	}()
	screen.expect("ready\r\n")
	screen.typed("\x13x\r")
	require.Eventually(t, func() bool {
		_, err := os.Stat(dir + "/held")
		return err == nil
	}, patience, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
	screen.typed("\x11") // Ctrl-Q
	require.Equal(t, 0, do(t, s, "echo released >/dev/tty").ExitCode)
	screen.expect("released\r\n")
	s = opened(t, Config{})
	screen = watch(t, s)
	for _, command := range []string{"stty raw -echo; stty 0", "reset >/dev/tty 2>&1", "stty -icanon -isig min 0 time 0", "stty cols 0 rows 0", "printf '\\ec\\e[?1049h\\e[3J' >/dev/tty"} {
		_, err := s.Exec(background(t), command)
		require.NoError(t, err, command)
		require.Equal(t, "alive\n", says(t, s, "echo alive"), command)
	}
	do(t, s, "stty sane")
	require.NoError(t, s.Signal(syscall.SIGWINCH))
	screen.typed("echo ty''ped\r")
	screen.expect("typed\r\n")
}

// A shell that is at its prompt just when it is sent a command, since it was told to
// leave an earlier one once too often, gets it all the same.
func TestSessionPromptIsLeft(t *testing.T) {
	s := opened(t, Config{})
	at(t, s)
	for i := range 40 {
		for _, command := range []string{"stty raw -echo; stty 0", "reset >/dev/tty 2>&1"} {
			_, err := s.Exec(background(t), command)
			require.NoError(t, err, "%d: %s", i, command)
			_, err = s.Write(nil)
			require.NoError(t, err)
			require.Equal(t, "alive\n", says(t, s, "echo alive"), "%d: %s", i, command)
		}
	}
}

// 87: input that is not there, or never ends.
func TestSessionUnterminated(t *testing.T) {
	s := opened(t, Config{Limits: Limits{Wall: 3 * time.Second}})
	for command, want := range map[string]LimitKind{
		"cat <<END\nnever ended": LimitNone,
		"read x":                 LimitTimeout,
		"cat":                    LimitTimeout,
		"python3 -c 'input()'":   LimitTimeout,
		"x=$(head -c 1048576 /dev/zero | tr '\\0' x); echo $x": LimitNone,
	} {
		r := do(t, s, command)
		require.Equal(t, want, r.Limit, command)
		require.Equal(t, "alive\n", says(t, s, "echo alive"), command)
	}
}
