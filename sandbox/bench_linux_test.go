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
	"golang.org/x/sys/unix"
)

// The kernel takes network namespaces down in the background: runs back to
// back would measure its backlog.
const pace = 25 * time.Millisecond

// BenchmarkRunVsBwrap alternates Run(`true`) with bubblewrap given the same
// view of the host, from a small parent and from one that holds 4 GB. It
// reports medians and their ratio (below 1: Run is faster).
//
//	go test -run '^$' -bench RunVsBwrap -benchtime 200x ./sandbox
func BenchmarkRunVsBwrap(b *testing.B) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		b.Fatal("bubblewrap is not installed: apt-get install bubblewrap")
	}
	argv := append([]string{bwrap}, bwrapArguments(b)...)
	b.Log(strings.Join(argv, " "))
	for _, size := range []int{0, 4 << 30} {
		b.Run(fmt.Sprintf("parent=%dGB", size>>30), func(b *testing.B) {
			if size > 0 {
				memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = unix.Munmap(memory) }()
			}
			compare(b, argv)
		})
	}
}

func compare(b *testing.B, argv []string) {
	var ours, theirs []time.Duration
	for b.Loop() {
		time.Sleep(pace)
		begin := time.Now()
		r, err := Run(b.Context(), Config{}, "true")
		ours = append(ours, time.Since(begin))
		if err != nil || r.ExitCode != 0 {
			b.Fatal(r, err)
		}
		time.Sleep(pace)
		begin = time.Now()
		c := exec.Command(argv[0], argv[1:]...)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		err = c.Run()
		theirs = append(theirs, time.Since(begin))
		if err != nil {
			b.Fatal(err, errs.String())
		}
	}
	b.ReportMetric(median(ours), "run-ms")
	b.ReportMetric(median(theirs), "bwrap-ms")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
	b.ReportMetric(0, "ns/op") // of both and the pauses
}

// bwrapArguments asks for what Run makes, as far as bubblewrap has it.
func bwrapArguments(b *testing.B) []string {
	args := []string{"--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--uid", "1000", "--gid", "1000",
		"--hostname", rootfs.Hostname, "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/home/user"}
	ops, err := rootfs.Tree{}.Plan()
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range ops {
		switch path := "/" + o.Path; {
		case o.Kind == proto.OpBind && o.Flags&(proto.BindInside|proto.BindDevice) == 0:
			args = append(args, "--ro-bind", o.Source, path)
		case o.Kind == proto.OpLink && !strings.HasPrefix(path, "/dev/"):
			args = append(args, "--symlink", o.Source, path)
		}
	}
	return append(args, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/home/user", "--tmpfs", "/workspace",
		"--chdir", "/workspace", "bash", "-c", "true")
}

// BenchmarkSessionExec alternates Exec(`true`) in a living session with a cold
// Run(`true`). It reports medians and their ratio, which the project wants to be
// 0.5 or less.
//
//	go test -run '^$' -bench SessionExec -benchtime 200x ./sandbox
func BenchmarkSessionExec(b *testing.B) {
	s, err := NewSession(b.Context(), Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var warm, cold []time.Duration
	for b.Loop() {
		time.Sleep(pace)
		begin := time.Now()
		e, err := s.Exec(b.Context(), "true")
		warm = append(warm, time.Since(begin))
		if err != nil || e.ExitCode != 0 {
			b.Fatal(e, err)
		}
		time.Sleep(pace)
		begin = time.Now()
		r, err := Run(b.Context(), Config{}, "true")
		cold = append(cold, time.Since(begin))
		if err != nil || r.ExitCode != 0 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(median(warm), "exec-ms")
	b.ReportMetric(median(cold), "run-ms")
	b.ReportMetric(median(warm)/median(cold), "ratio")
	b.ReportMetric(0, "ns/op") // of both and the pauses
}

// median is in milliseconds.
func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2]) / float64(time.Millisecond)
}
