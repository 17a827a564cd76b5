package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
)

// BenchmarkGroup alternates Run(`true`) in a control group with one in none. It
// reports medians and what the group costs.
//
//	go test -run '^$' -bench Group -benchtime 200x ./sandbox
func BenchmarkGroup(b *testing.B) {
	var in, out []time.Duration
	one := func(made func(cgroup.Limits) (*cgroup.Group, error)) time.Duration {
		time.Sleep(pace)
		newGroup = made
		begin := time.Now()
		r, err := Run(b.Context(), Config{}, "true")
		if err != nil || r.ExitCode != 0 {
			b.Fatal(r, err)
		}
		return time.Since(begin)
	}
	defer func() { newGroup = cgroup.New }()
	for b.Loop() {
		in = append(in, one(cgroup.New))
		out = append(out, one(func(cgroup.Limits) (*cgroup.Group, error) { return nil, cgroup.ErrNone }))
	}
	b.ReportMetric(median(in), "group-ms")
	b.ReportMetric(median(out), "none-ms")
	b.ReportMetric(median(in)-median(out), "cost-ms")
	b.ReportMetric(0, "ns/op") // of both and the pauses
}

// BenchmarkOutput alternates a Run that writes 1 GB with cat through a pipe to a
// Go reader. It reports medians, their ratio, which the project wants to be 1.2
// or less, and by how much this process has grown. "kept" goes to a live writer,
// "dropped" is beyond Limits.Output.
//
//	go test -run '^$' -bench Output -benchtime 20x ./sandbox
func BenchmarkOutput(b *testing.B) {
	const size = 1 << 30
	ws := b.TempDir()
	file := filepath.Join(ws, "zeros")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		b.Fatal(err)
	}
	outside := func() time.Duration {
		c := exec.Command("cat", file)
		r, err := c.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(discard{}, r)
		if err := errors.Join(err, c.Wait()); err != nil || n != size {
			b.Fatal(n, err)
		}
		return used(c)
	}
	for name, live := range map[string]io.Writer{"dropped": nil, "kept": discard{}} {
		b.Run(name, func(b *testing.B) {
			outside() // fills the page cache
			before := peakMemory(b)
			alternate(b, func() time.Duration {
				r, err := Run(b.Context(), Config{Workspace: ws, Stdout: live}, "exec cat zeros")
				if err != nil || r.ExitCode != 0 || !r.StdoutTruncated {
					b.Fatal(r.ExitCode, r.Limit, err)
				}
				return r.Usage.CPU
			}, outside)
			b.ReportMetric(peakMemory(b)-before, "growth-MB")
		})
	}
}

// discard is a writer without io.ReaderFrom, so that io.Copy copies.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// peakMemory is the most that this process has had resident, in MB.
func peakMemory(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	kb, err := strconv.ParseFloat(strings.Fields(string(rest))[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}

// used is the processor time of a command.
func used(c *exec.Cmd) time.Duration {
	return c.ProcessState.UserTime() + c.ProcessState.SystemTime()
}

// alternate reports medians of both and their ratio, of the time that passed and of
// the processor time that they return, which tells more on a host that is busy.
func alternate(b *testing.B, inside, outside func() time.Duration) {
	var in, out, inCPU, outCPU []time.Duration
	run := func(f func() time.Duration, passed, cpu *[]time.Duration) {
		time.Sleep(pace)
		begin := time.Now()
		used := f()
		*passed, *cpu = append(*passed, time.Since(begin)), append(*cpu, used)
	}
	for b.Loop() {
		run(inside, &in, &inCPU)
		run(outside, &out, &outCPU)
	}
	b.ReportMetric(median(in), "inside-ms")
	b.ReportMetric(median(out), "outside-ms")
	b.ReportMetric(median(in)/median(out), "ratio")
	b.ReportMetric(median(inCPU)/median(outCPU), "cpu-ratio")
	b.ReportMetric(0, "ns/op") // of both and the pauses
}

// BenchmarkWorkInside alternates work in a sandbox with the same work outside. It
// reports medians and their ratio, which the project wants to be 1.03 or less of
// the processor's work and 1.1 or less of work with files.
//
//	go test -run '^$' -bench WorkInside -benchtime 20x ./sandbox
func BenchmarkWorkInside(b *testing.B) {
	for _, w := range []struct{ name, command string }{
		{"compile", "gcc -O2 -c big.c -o big.o"},
		{"python", "/usr/bin/python3 -c 'x = 0\nfor i in range(5000000): x += i * i'"},
		{"files", "tar xf tree.tar && cp -r tree copy && grep -r needle copy | wc -l && rm -r tree copy"},
	} {
		b.Run(w.name, func(b *testing.B) {
			ws := b.TempDir()
			prepareWork(b, ws)
			alternate(b, func() time.Duration {
				r, err := Run(b.Context(), Config{Workspace: ws}, w.command)
				if err != nil || r.ExitCode != 0 {
					b.Fatal(string(r.Stderr), err)
				}
				return r.Usage.CPU
			}, func() time.Duration {
				c := exec.Command("bash", "-c", w.command)
				c.Dir = ws
				if out, err := c.CombinedOutput(); err != nil {
					b.Fatal(string(out), err)
				}
				return used(c)
			})
		})
	}
}

// prepareWork makes a source file of many functions and an archive of many files.
func prepareWork(b *testing.B, dir string) {
	var source strings.Builder
	for i := range 400 {
		fmt.Fprintf(&source, "int f%d(int a, int b) { int s = 0; for (int i = a; i < b; i++) s += (i * %d) ^ (s >> 3); return s; }\n", i, i)
	}
	err := os.WriteFile(filepath.Join(dir, "big.c"), []byte(source.String()), 0o644)
	for i := range 1000 {
		name := filepath.Join(dir, "tree", strconv.Itoa(i%20), strconv.Itoa(i))
		err = errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, bytes.Repeat([]byte("hay needle\n"), 200), 0o644))
	}
	c := exec.Command("bash", "-c", "tar cf tree.tar tree && rm -r tree")
	c.Dir = dir
	if err := errors.Join(err, c.Run()); err != nil {
		b.Fatal(err)
	}
}
