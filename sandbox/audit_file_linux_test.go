package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const auditPathVar = "LM_SANDBOX_TEST_AUDIT"

func auditNote(h slog.Handler, text string) error {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "note", 0)
	r.AddAttrs(slog.String("text", text))
	return h.Handle(context.Background(), r)
}

func TestAuditFileRefused(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("plain"), nil, 0o600))
	require.NoError(t, os.Symlink(at("plain"), at("link")))
	require.NoError(t, os.Symlink(at("none"), at("dangling")))
	require.NoError(t, os.WriteFile(at("two"), nil, 0o600))
	require.NoError(t, os.Link(at("two"), at("names")))
	require.NoError(t, os.WriteFile(at("open"), nil, 0o600))
	require.NoError(t, os.Chmod(at("open"), 0o622))
	require.NoError(t, unix.Mkfifo(at("fifo"), 0o600))
	for name, want := range map[string]string{
		"link": "symbolic link", "dangling": "symbolic link", "names": "second name", "open": "chmod go-w", "fifo": "no plain file",
		".": "is a directory", "absent/file": "no such file", "/dev/full": "",
	} {
		path := name
		if !filepath.IsAbs(name) {
			path = at(name)
		}
		_, err := OpenAuditFile(path)
		var failed *ErrAudit
		require.ErrorAs(t, err, &failed, name)
		require.Contains(t, err.Error(), want, name)
	}
	require.NoFileExists(t, at("none"))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(at("plain"), ordinaryID, ordinaryID))
		_, err := OpenAuditFile(at("plain"))
		require.ErrorContains(t, err, "belongs to uid 1000")
	}
	f, err := OpenAuditFile(at("fresh"))
	require.NoError(t, err)
	st, err := os.Stat(at("fresh"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode())
	for _, c := range []Config{{Workspace: dir}, {Binds: []Bind{{dir, "/data", true}}}, {Binds: []Bind{{dir, "/data", false}}}, {Root: dir}} {
		c.Audit = f.WithAttrs(nil)
		_, err = Run(t.Context(), c, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config)
		require.Equal(t, "Audit", config.Field, "the sandbox could write to it, or hold its lock")
	}
	require.NoError(t, os.Remove(at("fresh")))
	var failed *ErrAudit
	require.ErrorAs(t, auditNote(f, "x"), &failed)
	require.ErrorContains(t, failed, "deleted")
	require.NoError(t, f.Close())
	require.ErrorAs(t, auditNote(f, "x"), &failed)
	require.ErrorIs(t, failed, os.ErrClosed)
}

// Whatever the command is made of, its record is one line of ASCII that says which it was.
func TestAuditHostileCommand(t *testing.T) {
	f, lines := auditLog(t)
	for i, command := range []string{
		"\n\nevil\n{\"msg\":\"sandbox run\"}\n", "\x1b]0;title\a\x1b[2J\x9b31m\u009b31m\x7f\u202e", "\xff\xfe\xc3(", "\xed\xa0\x80\x00",
		": " + strings.Repeat("x", maxString-2), ": " + strings.Repeat("é\U0001F600", maxString/8), "\u2028\u2029</script>\\\"", strings.Repeat("\x01", 1<<20),
	} {
		_, _ = Run(t.Context(), Config{Audit: f, Limits: Limits{Wall: 5 * time.Second}, Env: map[string]string{"A\n\x1b": "v"}}, command)
		records := lines()
		require.Len(t, records, i+1)
		r := records[i]
		_, total, sum := bounded([]string{command})
		require.EqualValues(t, total, r["argv_bytes"])
		require.Equal(t, sum, r["argv_sha256"])
		text := r["argv"].([]any)[0].(string)
		require.LessOrEqual(t, len(text), 3*maxAuditText)
		if utf8.ValidString(command) {
			require.True(t, strings.HasPrefix(command, text))
		}
	}
	b, err := os.ReadFile(f.sink.path)
	require.NoError(t, err)
	for _, c := range b {
		require.True(t, c == '\n' || c >= ' ' && c < 0x7f, "byte %#x", c)
	}
}

// A line without its end is kept, ended, and told.
func TestAuditTornLine(t *testing.T) {
	for _, length := range []int{1, 4095, 4096, 4097, 200_000} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		f, err := OpenAuditFile(path)
		require.NoError(t, err)
		require.NoError(t, auditNote(f, "first"))
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		half := `{"` + strings.Repeat("x", length)
		tear := func() {
			other, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = other.WriteString(half)
			require.NoError(t, err)
			require.NoError(t, other.Close())
		}
		tear()
		require.NoError(t, auditNote(f, "second"), "by a file that is open")
		tear()
		g, err := OpenAuditFile(path)
		require.NoError(t, err)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(after, append(whole, half+"\n"...)), "nothing is removed")
		list := strings.Split(strings.TrimSuffix(string(after), "\n"), "\n")
		require.Len(t, list, 6)
		for i, line := range list {
			require.Equal(t, i != 1 && i != 4, json.Valid([]byte(line)), "line %d", i)
		}
		var seal struct{ Offset, Bytes int }
		require.NoError(t, json.Unmarshal([]byte(list[2]), &seal))
		require.Equal(t, half, string(after[seal.Offset:seal.Offset+seal.Bytes]))
		require.NoError(t, f.Close())
		require.NoError(t, g.Close())
	}
}

func init() {
	// Writes records until it is killed, and says how many it was told were written.
	roles["auditor"] = func() {
		f, err := OpenAuditFile(os.Getenv(auditPathVar))
		for i := 0; err == nil; i++ {
			if err = auditNote(f, fmt.Sprintf("%d-%d %s", os.Getpid(), i, strings.Repeat("x", 60_000))); err == nil {
				fmt.Println(i)
			}
		}
		fmt.Println(err)
	}
}

// Processes that append to one file and are killed at any moment leave each record that
// they were told of, and a file of which every line is a record or is told to be torn.
func TestAuditKilledWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	told := map[string]int{}
	var mu sync.Mutex
	for round := range 12 {
		var group sync.WaitGroup
		for range 3 {
			c := again("auditor", auditPathVar+"="+path)
			out, err := c.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, c.Start())
			group.Go(func() {
				first := true
				lines := bufio.NewScanner(out)
				for lines.Scan() {
					mu.Lock()
					told[strconv.Itoa(c.Process.Pid)] = mustInt(t, lines.Text()) + 1
					mu.Unlock()
					if first {
						first = false
						time.AfterFunc(time.Duration(round)*1700*time.Microsecond, func() { _ = c.Process.Kill() })
					}
				}
				_ = c.Wait() // killed
			})
		}
		group.Wait()
	}
	f, err := OpenAuditFile(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	found, torn := map[string]int{}, 0
	offset, broken := 0, -1
	for line := range bytes.Lines(b) {
		var record struct {
			Msg, Text string
			Offset    int
		}
		if json.Unmarshal(line, &record) != nil {
			require.Equal(t, -1, broken, "two broken lines in a row")
			broken = offset
		} else if record.Msg == "sandbox audit torn" {
			require.Equal(t, broken, record.Offset)
			broken = -1
			torn++
		} else {
			require.Equal(t, -1, broken, "a broken line that is not told")
			pid, n, _ := strings.Cut(strings.Fields(record.Text)[0], "-")
			require.Equal(t, strconv.Itoa(found[pid]), n, "the records of a process are in order")
			found[pid]++
		}
		offset += len(line)
	}
	require.Equal(t, -1, broken)
	for pid, n := range told {
		require.GreaterOrEqual(t, found[pid], n, "a record that was reported as written")
	}
	t.Logf("%d processes, %d bytes, %d torn lines", len(told), len(b), torn)
}

func mustInt(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Errorf("%q: %v", s, err)
	}
	return n
}

func init() {
	// On a disk of 128 kB, in a mount namespace of its own.
	roles["full"] = func() {
		dir := os.Getenv(auditPathVar)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
			fmt.Println("mount:", err)
			return
		}
		f, err := OpenAuditFile(filepath.Join(dir, "audit.jsonl"))
		if err != nil {
			fmt.Println(err)
			return
		}
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = auditNote(f, strings.Repeat("x", 3000))
		}
		fmt.Println("full:", err)
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte(strings.Repeat("x", 8192)), 0o600); err == nil {
			fmt.Println("it was not full")
		}
		_ = os.Truncate(filepath.Join(dir, "audit.jsonl"), 60_001) // room again, and a torn line
		fmt.Println("after:", auditNote(f, "after"))
		b, _ := os.ReadFile(filepath.Join(dir, "audit.jsonl"))
		list := strings.Split(strings.TrimSpace(string(b)), "\n")
		fmt.Println(strings.Contains(list[len(list)-2], "torn"), strings.Contains(list[len(list)-1], "after"))
	}
}

func TestAuditDiskFull(t *testing.T) {
	c := again("full", auditPathVar+"="+t.TempDir())
	c.SysProcAttr = namespaced()
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, "^full: sandbox: the audit record was not written to .*: no space left on device\nafter: <nil>\ntrue true\n$", string(out))
}

// A process that is stopped with the lock does not stop others for ever.
func TestAuditHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, err := OpenAuditFile(path)
	require.NoError(t, err)
	holder, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	released := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, func() { _ = holder.Close(); close(released) })
	require.NoError(t, auditNote(f, "x"), "it waits")
	<-released
	require.NoError(t, f.Close())
}

// chattr +a is a file that the kernel itself lets nobody shorten.
func TestAuditAppendOnlyFlag(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("torn"), 0o600))
	if out, err := exec.Command("chattr", "+a", path).CombinedOutput(); err != nil {
		t.Logf("this filesystem has no such flag: %s", out)
		return
	}
	t.Cleanup(func() { _ = exec.Command("chattr", "-a", path).Run() })
	f, err := OpenAuditFile(path)
	require.NoError(t, err)
	require.NoError(t, auditNote(f, "x"))
	require.ErrorIs(t, os.Truncate(path, 0), syscall.EPERM, "the control")
	require.NoError(t, f.Close())
}
