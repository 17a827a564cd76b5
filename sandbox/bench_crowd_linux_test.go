package sandbox

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const crowd = 200

// BenchmarkCrowd alternates 200 Runs at once with 200 bubblewraps and with 200 runcs. It
// reports their time by ours: the project wants 1.3 of bwrap and 8 of runc.
//
//	go test -run '^$' -bench Crowd -benchtime 5x ./sandbox
func BenchmarkCrowd(b *testing.B) {
	argv := bwrap(b)
	b.Log(strings.Join(argv, " "))
	sides := []side{cold(b), program("bwrap", argv), runc(b)}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, s := range sides {
			time.Sleep(time.Second) // the backlog of the other
			begin := time.Now()
			require.NoError(b, atOnce(s.run), s.name)
			times[s.name] = append(times[s.name], time.Since(begin))
		}
	}
	for _, s := range sides {
		b.ReportMetric(median(times[s.name]), s.name+"-ms")
	}
	b.ReportMetric(median(times["bwrap"])/median(times["run"]), "bwrap-ratio")
	b.ReportMetric(median(times["runc"])/median(times["run"]), "runc-ratio")
	b.ReportMetric(0, "ns/op")
}

func atOnce(run func() error) error {
	var all sync.WaitGroup
	errs := make(chan error, crowd)
	for range crowd {
		all.Go(func() { errs <- run() })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// runc runs `true` in the namespaces that Run has, but time, with the host's /usr.
func runc(b *testing.B) side {
	name, err := exec.LookPath("runc")
	require.NoError(b, err, "apt-get install runc")
	dir := b.TempDir()
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"usr", "proc", "dev", "sys", "tmp", "etc", "workspace"} {
		require.NoError(b, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		require.NoError(b, os.Symlink("usr/"+l, filepath.Join(root, l)))
	}
	spec := []string{"spec"}
	if os.Geteuid() != 0 {
		spec = append(spec, "--rootless")
	}
	c := exec.Command(name, spec...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	require.NoError(b, err, "%s", out)
	file := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(file)
	require.NoError(b, err)
	var config map[string]any
	require.NoError(b, json.Unmarshal(text, &config))
	process := config["process"].(map[string]any)
	process["terminal"], process["args"], process["cwd"] = false, []string{"/bin/bash", "-c", "true"}, "/workspace"
	config["mounts"] = append(config["mounts"].([]any), map[string]any{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}})
	if os.Geteuid() == 0 {
		linux := config["linux"].(map[string]any)
		linux["namespaces"] = append(linux["namespaces"].([]any), map[string]any{"type": "user"})
		one := []map[string]any{{"containerID": 0, "hostID": dedicatedID, "size": 1 << 16}} // devpts wants group 5
		linux["uidMappings"], linux["gidMappings"] = one, one
		for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
			require.NoError(b, os.Chmod(d, 0o755))
		}
	}
	text, err = json.Marshal(config)
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(file, text, 0o644))
	state := filepath.Join(dir, "state")
	var serial atomic.Int64
	b.Logf("%s --root %s run --bundle %s ID", name, state, dir)
	return side{"runc", func() error {
		id := "bench-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(serial.Add(1), 10)
		return program("runc", []string{name, "--root", state, "run", "--bundle", dir, id}).run()
	}}
}

// BenchmarkSustained runs `true` back to back for 60 s, and reports the median of all and of
// the last 5 s by that of the first 5 s. The project wants 1.2.
//
//	go test -run '^$' -bench Sustained -benchtime 1x ./sandbox
func BenchmarkSustained(b *testing.B) {
	const part, whole = 5 * time.Second, time.Minute
	run := cold(b).run
	var first, last, all []time.Duration
	for b.Loop() {
		for begin := time.Now(); time.Since(begin) < whole; {
			at := time.Now()
			require.NoError(b, run())
			d := time.Since(at)
			all = append(all, d)
			if at.Sub(begin) < part {
				first = append(first, d)
			} else if at.Sub(begin) > whole-part {
				last = append(last, d)
			}
		}
	}
	b.ReportMetric(median(first), "first-ms")
	b.ReportMetric(median(all)/median(first), "all-ratio")
	b.ReportMetric(median(last)/median(first), "last-ratio")
	b.ReportMetric(float64(len(all)), "runs")
	b.ReportMetric(0, "ns/op")
}
