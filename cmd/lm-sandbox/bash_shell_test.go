package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// keyboard is a terminal with 'lm-sandbox bash' on it.
type keyboard struct {
	*cli
	master, slave *os.File
	before        unix.Termios // how the terminal was

	mu    sync.Mutex
	shown bytes.Buffer
	seen  int
	end   chan struct{} // closed when all that was shown has been read
}

func startOnTerminal(t *testing.T, args ...string) *keyboard {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	master = pollable(t, master)
	k := &keyboard{cli: &cli{t: t, cmd: exec.Command("lm-sandbox", args...)}, master: master, slave: slave, end: make(chan struct{})}
	k.before = k.mode()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 33, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	k.cmd.Stdin, k.cmd.Stdout, k.cmd.Stderr = slave, slave, slave
	k.cmd.Env = append(os.Environ(), "TERM=vt100")
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go k.watch()
	t.Cleanup(func() {
		k.kill()
		_ = slave.Close()
		<-k.end
		_ = master.Close()
	})
	return k
}

// pollable is the same file, which can be closed while it is read.
func pollable(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	return os.NewFile(uintptr(fd), "terminal")
}

func (k *keyboard) mode() unix.Termios {
	k.t.Helper()
	mode, err := unix.IoctlGetTermios(int(k.slave.Fd()), unix.TCGETS)
	if err != nil {
		k.t.Fatal(err)
	}
	return *mode
}

func (k *keyboard) watch() {
	defer close(k.end)
	buf := make([]byte, 4096)
	for {
		n, err := k.master.Read(buf)
		k.mu.Lock()
		k.shown.Write(buf[:n])
		k.mu.Unlock()
		if err != nil { // EIO once nobody has the terminal
			return
		}
	}
}

func (k *keyboard) press(keys string) {
	k.t.Helper()
	if _, err := io.WriteString(k.master, keys); err != nil {
		k.t.Fatal(err)
	}
}

// expect waits until the terminal shows text, after what was expected before.
func (k *keyboard) expect(text string) {
	k.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		k.mu.Lock()
		rest := k.shown.String()[k.seen:]
		i := strings.Index(rest, text)
		if i >= 0 {
			k.seen += i + len(text)
		}
		k.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(end) {
			k.t.Fatalf("the terminal does not show %q but %q", text, rest)
		}
	}
}

// ended waits for the end: the exit code is code, and the terminal is as it was.
func (k *keyboard) ended(code int, processes []process) {
	k.t.Helper()
	if got := k.wait(); got != code {
		k.t.Errorf("exit code %d, want %d", got, code)
	}
	if k.mode() != k.before {
		k.t.Errorf("the terminal is left as %+v, was %+v", k.mode(), k.before)
	}
	wantDead(k.t, processes)
}

func TestBashShell(t *testing.T) {
	k := startOnTerminal(t, "bash", "--env", "GREETING=hello")
	k.expect("/workspace$ ")
	if k.mode() == k.before {
		t.Error("the terminal is not in raw mode")
	}
	k.press("tty; stty size; echo $GREETING $TERM; id -un\r")
	k.expect("/dev/pts/0\r\n33 77\r\nhello vt100\r\nuser\r\n")
	if err := pty.Setsize(k.master, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	k.press("until [[ $(stty size) == '44 111' ]]; do sleep 0.01; done; echo resi''zed\r")
	k.expect("resized\r\n")
	k.press("bash -c 'echo rea''dy; exec sleep 300'\r")
	k.expect("ready\r\n")
	started := k.awaitDescendant("sleep")
	k.press("\x03") // ends what runs inside and nothing else
	k.expect("$ ")
	k.press("bash -c 'echo rea''dy; exec sleep 300'\r")
	k.expect("ready\r\n")
	started = append(started, k.awaitDescendant("sleep")...)
	k.press("\x1a")
	k.expect("Stopped")
	k.press("jobs; bg; jobs\r")
	k.expect("Running")
	k.press("exit 7\r")
	k.ended(7, started)
}

func TestBashShellEndOfInput(t *testing.T) {
	k := startOnTerminal(t, "bash")
	k.expect("$ ")
	started := k.descendants()
	k.press("(exit 5)\r\x04")
	k.ended(5, started)
}

// Whatever ends it, the terminal is as it was and nothing is left.
func TestBashShellSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(s.String(), func(t *testing.T) {
			k := startOnTerminal(t, "bash")
			k.expect("$ ")
			k.press("trap '' HUP TERM INT; sleep 300\r")
			started := k.awaitDescendant("sleep")
			k.signal(s)
			k.ended(128+int(s), started)
		})
	}
	t.Run("killed", func(t *testing.T) { // raw mode is left, of course
		k := startOnTerminal(t, "bash")
		k.expect("$ ")
		k.press("trap '' HUP TERM INT; sleep 300\r")
		started := k.awaitDescendant("sleep")
		k.signal(syscall.SIGKILL)
		if code := k.wait(); code != 137 {
			t.Errorf("exit code %d", code)
		}
		wantDead(t, started)
	})
	t.Run("timeout", func(t *testing.T) {
		k := startOnTerminal(t, "bash", "--timeout", "5s")
		k.expect("$ ")
		started := k.descendants()
		k.ended(137, started)
		k.expect("lm-sandbox: the shell reached a limit: timeout\r\n")
	})
	t.Run("terminal gone", func(t *testing.T) {
		k := startOnTerminal(t, "bash")
		k.expect("$ ")
		started := k.descendants()
		_ = k.slave.Close()
		_ = k.master.Close()
		if code := k.wait(); code != 129 && code != exitFailure {
			t.Errorf("exit code %d, want that of SIGHUP", code)
		}
		wantDead(t, started)
	})
}

func TestBashShellRefused(t *testing.T) {
	for _, args := range [][]string{{"bash", "--json"}, {"bash", "--dir", "relative"}, {"bash", "--files", "100"}} {
		k := startOnTerminal(t, args...)
		k.ended(exitUsage, nil)
		k.expect("lm-sandbox: hint: ")
	}
}
