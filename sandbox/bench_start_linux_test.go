package sandbox

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The kernel takes network namespaces down in the background: runs back to
// back would measure its backlog.
const pace = 25 * time.Millisecond

// side is one of two that are compared.
type side struct {
	name string
	run  func() error
}

// pairs alternates two sides and reports median and p95 of both, and ours by theirs.
// before is called before each run, off the clock.
func pairs(b *testing.B, ours, theirs side, before func()) {
	b.Helper()
	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, s := range []side{ours, theirs} {
			time.Sleep(pace)
			before()
			begin := time.Now()
			err := s.run()
			times[s.name] = append(times[s.name], time.Since(begin))
			require.NoError(b, err, s.name)
		}
	}
	o, t := times[ours.name], times[theirs.name]
	b.ReportMetric(median(o), ours.name+"-ms")
	b.ReportMetric(median(t), theirs.name+"-ms")
	b.ReportMetric(median(o)/median(t), "median-ratio")
	b.ReportMetric(quantile(o, 95)/quantile(t, 95), "p95-ratio")
	b.ReportMetric(0, "ns/op") // of both and the pauses
}

func nothing() {}

// quantile is in milliseconds.
func quantile(d []time.Duration, percent int) float64 {
	slices.Sort(d)
	return float64(d[len(d)*percent/100]) / float64(time.Millisecond)
}

func median(d []time.Duration) float64 { return quantile(d, 50) }

func cold(b *testing.B) side { return in(b, "run", execute, Config{}) }

// in runs `true` by an executor.
func in(b *testing.B, name string, execute executor, c Config) side {
	return side{name, func() error {
		r, err := runIn(b.Context(), execute, c, "true")
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("exit code %d: %s", r.ExitCode, r.Stderr)
		}
		return err
	}}
}

// program runs a program with its output read by this process, as Run does.
func program(name string, argv []string) side {
	return side{name, func() error {
		c := exec.Command(argv[0], argv[1:]...)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, errs.String())
		}
		return nil
	}}
}

// BenchmarkRunVsBwrap alternates Run(`true`) with bubblewrap given the same
// view of the host. The project wants 0.8 of the median and 1.0 of p95.
//
//	go test -run '^$' -bench RunVsBwrap -benchtime 200x ./sandbox
func BenchmarkRunVsBwrap(b *testing.B) {
	argv := bwrap(b)
	b.Log(strings.Join(argv, " "))
	pairs(b, cold(b), program("bwrap", argv), nothing)
}

// BenchmarkLargeParent alternates Run(`true`) while this process holds 4 GB with Run
// while it does not. The project wants 1.1.
//
//	go test -run '^$' -bench LargeParent -benchtime 40x ./sandbox
func BenchmarkLargeParent(b *testing.B) {
	var memory []byte
	release := func() {
		if memory != nil {
			require.NoError(b, unix.Munmap(memory))
			memory = nil
			time.Sleep(pace)
		}
	}
	defer release()
	run := cold(b).run
	turn := 0
	pairs(b, side{"4GB", run}, side{"small", run}, func() {
		release()
		if turn++; turn%2 == 1 {
			var err error
			memory, err = unix.Mmap(-1, 0, 4<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
			require.NoError(b, err)
			time.Sleep(pace)
		}
	})
}

// BenchmarkPool alternates Run(`true`) in a sandbox of a pool with plain fork and exec of
// bash. The project wants 1.5.
//
//	go test -run '^$' -bench Pool -benchtime 200x ./sandbox
func BenchmarkPool(b *testing.B) {
	p, ready := benchPool(b)
	pairs(b, in(b, "warm", p.impl.execute, Config{}), program("bash", []string{"/bin/bash", "-c", "true"}), ready)
	require.Zero(b, p.Stats().Cold)
}

// BenchmarkSessionExec alternates Exec(`true`) in a living session with Run(`true`) in a
// sandbox of a pool. The project wants 0.5.
//
//	go test -run '^$' -bench SessionExec -benchtime 200x ./sandbox
func BenchmarkSessionExec(b *testing.B) {
	p, ready := benchPool(b)
	s, err := NewSession(b.Context(), Config{})
	require.NoError(b, err)
	defer s.Close()
	pairs(b, side{"exec", func() error {
		_, err := s.Exec(b.Context(), "true")
		return err
	}}, in(b, "warm", p.impl.execute, Config{}), ready)
	require.Zero(b, p.Stats().Cold)
}

// benchPool is a pool, and what waits until it is full and quiet.
func benchPool(b *testing.B) (p *Pool, ready func()) {
	const size = 4
	p, err := NewPool(Config{}, size)
	require.NoError(b, err)
	b.Cleanup(func() { _ = p.Close() })
	return p, func() {
		for p.Stats().Ready < size {
			time.Sleep(pace)
		}
	}
}

// bwrap asks for what Run makes, as far as bubblewrap has it.
func bwrap(b *testing.B) []string {
	name, err := exec.LookPath("bwrap")
	require.NoError(b, err, "apt-get install bubblewrap")
	args := []string{name, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--uid", "1000", "--gid", "1000",
		"--hostname", rootfs.Hostname, "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/home/user"}
	ops, err := rootfs.Tree{}.Plan()
	require.NoError(b, err)
	for _, o := range ops {
		switch path := "/" + o.Path; {
		case o.Kind == proto.OpBind && o.Flags&(proto.BindInside|proto.BindDevice) == 0:
			args = append(args, "--ro-bind", o.Source, path)
		case o.Kind == proto.OpLink && !strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/proc/"):
			args = append(args, "--symlink", o.Source, path)
		}
	}
	return append(args, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/home/user", "--tmpfs", "/workspace",
		"--chdir", "/workspace", "bash", "-c", "true")
}
