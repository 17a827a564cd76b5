// Package progress shows how far a long task is: a bar with rate and time left
// on a terminal, now and then a plain line anywhere else.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Unit is what is counted.
type Unit int

// The units.
const (
	Bytes   Unit = iota // shown as kB, MB, GB
	Steps               // shown as [n/total]
	Percent             // the total is 100
)

// interval is the least time between two plain lines of one Bar.
const interval = 5 * time.Second

// Bar shows one task. Its methods may be called from any goroutine.
type Bar struct {
	mu    sync.Mutex
	w     io.Writer
	label string
	unit  Unit
	done  int64
	total int64 // 0 = unknown
	start time.Time

	bar  *progressbar.ProgressBar // nil: plain lines
	last time.Time                // of the last plain line
	ever bool                     // a plain line was written
	over bool
}

// New starts showing a task on w. total 0 means unknown so far. A bar is drawn
// where w is a terminal that is not dumb, without colours in any case; else lines
// are written, at most one in five seconds.
func New(w io.Writer, label string, total int64, unit Unit) *Bar {
	b := &Bar{w: w, label: label, unit: unit, total: total, start: time.Now()}
	b.last = b.start
	if isTerminal(w) {
		b.bar = newBar(w, label, total, unit)
	}
	return b
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

func newBar(w io.Writer, label string, total int64, unit Unit) *progressbar.ProgressBar {
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(label),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionEnableColorCodes(false),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine: its is racy and never ends
	}
	switch unit {
	case Bytes:
		options = append(options, progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true))
	case Steps:
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("steps"))
	}
	if total <= 0 {
		total = -1
	}
	return progressbar.NewOptions64(total, options...)
}

// SetTotal corrects the total.
func (b *Bar) SetTotal(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || total == b.total || total <= 0 {
		return
	}
	b.total = total
	if b.bar != nil {
		b.bar.ChangeMax64(total)
	}
}

// Set says that done of the total is done.
func (b *Bar) Set(done int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.done = done
	if b.bar != nil {
		// Drawing fails when the terminal is gone; the task goes on.
		_ = b.bar.Set64(done)
		return
	}
	if now := time.Now(); now.Sub(b.last) >= interval {
		b.last, b.ever = now, true
		b.line()
	}
}

// Done ends the showing: the bar is cleared; where lines were written, a last
// one follows. Later calls do nothing.
func (b *Bar) Done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over = true
	if b.bar != nil {
		_ = b.bar.Exit()
		_ = b.bar.Clear()
		return
	}
	if b.ever {
		b.line()
	}
}

// line writes "label: 12.0 MB of 98.4 MB, 3.1 MB/s, 28s left".
func (b *Bar) line() {
	elapsed := time.Since(b.start)
	s := b.label + ": " + b.amount(b.done)
	if b.total > 0 && b.unit != Percent {
		s += " of " + b.amount(b.total)
	}
	if rate := float64(b.done) / elapsed.Seconds(); rate > 0 {
		if b.unit == Bytes {
			s += ", " + b.amount(int64(rate)) + "/s"
		}
		if left := b.total - b.done; left > 0 {
			s += ", " + time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second).String() + " left"
		}
	}
	fmt.Fprintln(b.w, s)
}

func (b *Bar) amount(n int64) string {
	switch b.unit {
	case Bytes:
		return size(n)
	case Percent:
		return fmt.Sprintf("%d%%", n)
	}
	return fmt.Sprint(n)
}

func size(n int64) string {
	const k = 1000
	v, unit := float64(n), "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if v < k {
			break
		}
		v, unit = v/k, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
