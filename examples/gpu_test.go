package examples

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/gpu/gputest"
)

func TestGPU(t *testing.T) {
	if out := runExample(t, "gpu"); !strings.HasPrefix(out, "no GPU: ") && !strings.Contains(out, "GPU") {
		t.Errorf("it printed %q", out)
	}

	d := gputest.H200()
	d.Processes = []gpu.Process{{PID: 4711, Name: "trainer", Memory: 1 << 30}}
	fake, err := gputest.Build(t.TempDir(), gputest.Machine{Driver: "550.54.15", CUDA: gpu.Version{Major: 12, Minor: 4}, Devices: []gpu.Device{d}})
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "gpu")
	if out, err := exec.Command("go", "build", "-o", binary, "./gpu").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "10ms")
	cmd.Env = append(os.Environ(), fake.Env())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(stdout)
	watched := 0
	for lines.Scan() {
		// Whether it can be used depends on the devices of this machine; its memory does not.
		if lines.Text() == "GPU 0: 531 MiB of 140.4 GiB used, processes: 1" {
			if watched++; watched == 3 {
				break
			}
		}
	}
	if watched != 3 {
		t.Fatalf("%d lines of watching, then %v", watched, lines.Err())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}
