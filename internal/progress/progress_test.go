package progress

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLinesAreRareAndEndWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := New(&out, "model", 0, Bytes)
		b.SetTotal(100_000_000)
		for i := range 200 { // 20 seconds
			time.Sleep(100 * time.Millisecond)
			b.Set(int64(i+1) * 500_000)
		}
		b.Done()
		b.Done()
		b.Set(1)
		assert.Equal(t, []string{
			"model: 25.0 MB of 100.0 MB, 5.0 MB/s, 15s left",
			"model: 50.0 MB of 100.0 MB, 5.0 MB/s, 10s left",
			"model: 75.0 MB of 100.0 MB, 5.0 MB/s, 5s left",
			"model: 100.0 MB of 100.0 MB, 5.0 MB/s",
			"model: 100.0 MB of 100.0 MB, 5.0 MB/s",
		}, strings.Split(strings.TrimSpace(out.String()), "\n"))
	})
}

func TestShortTasksPrintNothing(t *testing.T) {
	var out bytes.Buffer
	b := New(&out, "x", 10, Steps)
	b.Set(10)
	b.Done()
	assert.Empty(t, out.String())
}

func TestUnits(t *testing.T) {
	for _, test := range []struct {
		unit        Unit
		done, total int64
		want        string
	}{
		{Bytes, 999, 0, "x: 999 B, 99 B/s"},
		{Bytes, 1000, 0, "x: 1.0 kB, 100 B/s"},
		{Steps, 12, 345, "x: 12 of 345, 4m38s left"},
		{Steps, 0, 345, "x: 0 of 345"},
		{Percent, 50, 100, "x: 50%, 10s left"},
		{Bytes, 5_000_000_000, 4_000_000_000, "x: 5.0 GB of 4.0 GB, 500.0 MB/s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			b := New(&out, "x", test.total, test.unit)
			time.Sleep(10 * time.Second)
			b.Set(test.done)
			assert.Equal(t, test.want+"\n", out.String())
		})
	}
}

// terminal returns what draw writes to a terminal.
func terminal(t *testing.T, draw func(w *os.File)) string {
	t.Helper()
	master, tty, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}))
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&out, master) // ends with EIO when the other side closes
	}()
	draw(tty)
	require.NoError(t, tty.Close())
	<-read
	require.NoError(t, master.Close())
	return out.String()
}

func TestBarOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	out := terminal(t, func(w *os.File) {
		b := New(w, "model", 0, Bytes)
		b.SetTotal(1000_000)
		time.Sleep(150 * time.Millisecond) // the bar is drawn ten times a second
		b.Set(500_000)
		b.Done()
	})
	assert.Contains(t, out, "model")
	assert.Contains(t, out, "50%")
	assert.Contains(t, out, "B/s", "the rate")
	assert.Regexp(t, `\[\d+s:\d+s\]`, out, "elapsed and left")
	assert.NotContains(t, out, "\x1b[3", "no colours")
	for line := range strings.SplitSeq(out, "\r") {
		assert.LessOrEqual(t, len([]rune(line)), 90, "one line of the terminal")
	}
}

func TestDumbTerminalGetsLines(t *testing.T) {
	t.Setenv("TERM", "dumb")
	out := terminal(t, func(w *os.File) {
		b := New(w, "model", 10, Steps)
		b.Set(5)
		b.Done()
	})
	assert.Empty(t, out)
}

func TestConcurrentUse(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal(t, func(w *os.File) {
		b := New(w, "model", 0, Steps)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := range int64(100) {
					b.SetTotal(100)
					b.Set(i)
				}
			})
		}
		all.Wait()
		b.Done()
	})
}
