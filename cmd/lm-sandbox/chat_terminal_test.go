package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const chatAdvice = "[Ctrl-C again, or Ctrl-D, ends]\r\n"

// startChat runs 'chat' on a terminal of a kind and waits for its prompt. type types
// keys; the rest of what is shown comes when the program ends.
func startChat(t *testing.T, kind string, args ...string) (c *cli, typeKeys func(string), rest func() string) {
	t.Helper()
	c = &cli{t: t, cmd: exec.Command("lm-sandbox", append([]string{"chat", "--temp", "0"}, args...)...)}
	c.cmd.Env = append(os.Environ(), "TERM="+kind)
	terminal, err := pty.StartWithSize(c.cmd, &pty.Winsize{Rows: 24, Cols: 200})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = terminal.Close()
		c.kill()
	})
	c.stdout = terminal
	typeKeys = func(keys string) {
		_, err := terminal.WriteString(keys)
		require.NoError(t, err)
	}
	rest = func() string {
		var shown bytes.Buffer
		if _, err := io.Copy(&shown, terminal); err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		settings, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		require.NoError(t, err)
		require.Equal(t, uint32(unix.ICANON|unix.ECHO|unix.ISIG), settings.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG), "the terminal is as it was")
		return shown.String()
	}
	c.read("> ")
	return c, typeKeys, rest
}

// Ctrl-C stops the answer and not the program; at the prompt the second one ends it.
func TestChatCtrlC(t *testing.T) {
	for _, kind := range []string{"xterm", "dumb"} {
		t.Run(kind, func(t *testing.T) {
			saved := filepath.Join(t.TempDir(), "c.json")
			c, typeKeys, rest := startChat(t, kind, "-n", "0")
			const question = "Write a long story about a king."
			typeKeys(question + "\r")
			c.read(question)
			c.read("\r\n")
			c.read(" ") // of the answer
			typeKeys("\x03")
			c.read("[stopped]\r\n")
			c.read("> ")
			typeKeys("/save " + saved + "\r")
			c.read("2 messages saved]\r\n")
			c.read("> ")
			typeKeys("half a line\x03")
			c.read(chatAdvice)
			c.read("> ")
			typeKeys("/reset\r") // between two, so that they do not count together
			c.read("forgotten]\r\n")
			c.read("> ")
			typeKeys("\x03")
			c.read(chatAdvice)
			c.read("> ")
			typeKeys("\x03")
			shown := rest()
			require.Equal(t, 0, c.wait(), shown)

			messages, err := loadConversation(saved)
			require.NoError(t, err)
			require.Equal(t, question, messages[0].Content)
			require.NotEmpty(t, messages[1].Content, "what there is of the answer")
		})
	}
}

func TestChatCtrlD(t *testing.T) {
	for _, kind := range []string{"xterm", "dumb"} {
		t.Run(kind, func(t *testing.T) {
			c, typeKeys, rest := startChat(t, kind)
			typeKeys("\x04")
			shown := rest()
			require.Equal(t, 0, c.wait(), shown)
			require.True(t, strings.HasSuffix(shown, "\r\n"), "%q", shown)
		})
	}
}

// A dumb terminal, and a pipe, get text alone.
func TestChatWritesNoEscapes(t *testing.T) {
	c, typeKeys, rest := startChat(t, "dumb", "-n", "1")
	typeKeys("Hello.\r")
	shown := c.read("sets how many]\r\n")
	typeKeys("\x04")
	shown += rest()
	require.Equal(t, 0, c.wait(), shown)
	require.NotContains(t, shown, "\x1b")
}

// Lines are edited, come back with the arrow, and a paste is one message.
func TestChatEditsLines(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "c.json")
	c, typeKeys, rest := startChat(t, "xterm", "-n", "1")
	typeKeys("Helo\x1b[Dl\x05!\r") // left, l, to the end
	c.read("sets how many]\r\n")
	c.read("> ")
	typeKeys("\x1b[A\r") // up
	c.read("sets how many]\r\n")
	c.read("> ")
	typeKeys("\x1b[200~one\rtwo\x1b[201~\r")
	c.read("sets how many]\r\n")
	c.read("> ")
	typeKeys("three\\\r")
	c.read(". ")
	typeKeys("four\r")
	c.read("sets how many]\r\n")
	c.read("> ")
	typeKeys("/save " + saved + "\r\x04")
	shown := rest()
	require.Equal(t, 0, c.wait(), shown)
	messages, err := loadConversation(saved)
	require.NoError(t, err)
	var asked []string
	for i := 0; i < len(messages); i += 2 {
		asked = append(asked, messages[i].Content)
	}
	require.Equal(t, []string{"Hello!", "Hello!", "one\ntwo", "three\nfour"}, asked)
}

// A person is told of an error and goes on.
func TestChatGoesOnAfterErrors(t *testing.T) {
	c, typeKeys, rest := startChat(t, "dumb", "-n", "1", "-c", "256")
	typeKeys("/nothing\r")
	c.read("/nothing is no command\r\n")
	c.read("> ")
	typeKeys("/load nowhere.json\r")
	c.read("nowhere.json: no such file or directory\r\n")
	c.read("> ")
	typeKeys(strings.Repeat("one two three four five ", 100) + "\r")
	c.read("the context is full")
	c.read("> ")
	typeKeys("Hello.\r")
	c.read("sets how many]\r\n")
	typeKeys("\x04")
	shown := rest()
	require.Equal(t, 0, c.wait(), shown)
}

// SIGTERM ends the program at the prompt, with the terminal as it was.
func TestChatTerminated(t *testing.T) {
	for _, kind := range []string{"xterm", "dumb"} {
		t.Run(kind, func(t *testing.T) {
			c, _, rest := startChat(t, kind)
			c.signal(syscall.SIGTERM)
			shown := rest()
			require.Equal(t, 143, c.wait(), shown)
		})
	}
}

// Through a pipe SIGINT ends it, as every command.
func TestChatInterruptedInPipe(t *testing.T) {
	c := start(t, "chat", "--temp", "0", "-n", "0")
	_, err := c.stdin.WriteString("Write a long story about a king.\n")
	require.NoError(t, err)
	c.read(" ")
	c.signal(syscall.SIGINT)
	require.Equal(t, 130, c.wait(), c.stderr.String())
}
