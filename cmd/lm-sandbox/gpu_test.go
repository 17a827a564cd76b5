package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/gpu/gputest"
	"github.com/lm-sandbox/lm-sandbox/llama"
)

// onTestMachine is called by the command that a test runs: with GPU_TEST_ROOT it looks for GPUs in that root directory,
// with GPU_TEST_FEATURES as if llama.cpp were built like that, with CUDA 12.
func onTestMachine() {
	if root := os.Getenv("GPU_TEST_ROOT"); root != "" {
		gpus.host.Root = testRoot{os.DirFS(root)}
	}
	if features := os.Getenv("GPU_TEST_FEATURES"); features != "" {
		gpus.build = func() (gpuBuild, error) {
			b := readFeatures(features)
			b.Toolkit = gpu.Version{Major: 12}
			return b, nil
		}
	}
}

// testRoot forbids opening the files that hold "forbidden"; the tests may run as root, who may open any.
type testRoot struct{ fs.FS }

func (r testRoot) Open(name string) (fs.File, error) {
	if text, err := fs.ReadFile(r.FS, name); err == nil && string(text) == "forbidden" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return r.FS.Open(name)
}

func TestGPUOnMachines(t *testing.T) {
	h200 := gputest.H200()
	older := h200
	older.Name, older.ComputeCapability = "Tesla P100", gpu.Version{Major: 6}
	divided := h200
	divided.MIG.Enabled = true
	held := h200
	held.ComputeMode, held.Processes = gpu.ComputeExclusiveProcess, []gpu.Process{{PID: 77, Name: "/opt/trainer", Memory: 9 << 30}}
	with := func(d gpu.Device) gputest.Machine {
		return gputest.Machine{Driver: "550.54.15", CUDA: gpu.Version{Major: 12, Minor: 4}, Devices: []gpu.Device{d}}
	}
	old := with(h200)
	old.Driver, old.CUDA = "470.82.01", gpu.Version{Major: 11, Minor: 4}
	failing := func(code int) gputest.Machine {
		m := with(h200)
		m.Returns = map[string]int{"nvmlInit_v2": code}
		return m
	}
	nodes := []string{"dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0"}
	const hopper, blackwell, cpu = "CUDA : ARCHS = 800,900 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | ", "CUDA : ARCHS = 1000 | ", "CPU : SSE3 = 1 | "
	tests := []struct {
		name     string
		m        gputest.Machine
		files    []string // of the root directory; "NAME=TEXT" has that text
		env      string
		features string
		want     string // on stderr
		status   string // doctor's
	}{
		{"built without CUDA", with(h200), nodes, "", cpu, "llama.cpp in this program is built without CUDA, so that NVIDIA H200 is not used: build it again (install the CUDA toolkit 12.4, then make build CUDA=1 CUDA_ARCHS=90)", checkWarn},
		{"driver older than CUDA", old, nodes, "", hopper, "the NVIDIA driver 470.82.01 is too old, it runs CUDA 11.4 and CUDA 12.0 is needed: install driver 525.60.13 or newer", checkWarn},
		{"compute capability", with(older), nodes, "", hopper, "GPU 0 (Tesla P100): its compute capability is 6.0, the program was compiled for 8.0, 9.0: build with CUDA_ARCHS=60", checkWarn},
		{"newer code only", with(h200), nodes, "", blackwell, "its compute capability is 9.0, the program was compiled for 10.0: build with CUDA_ARCHS=90", checkWarn},
		{"container without its GPUs", failing(9), []string{".dockerenv", "proc/driver/nvidia/version"}, "", hopper, "its devices are not in this container: start the container with its GPUs (docker run --gpus all", checkWarn},
		{"container without a node", with(h200), append([]string{".dockerenv"}, nodes[:2]...), "", hopper, "no /dev/nvidia0 in this container: start the container with its GPUs", checkWarn},
		{"host without a node", with(h200), []string{"dev/nvidiactl", "dev/nvidia0"}, "", hopper, "no /dev/nvidia-uvm: install nvidia-modprobe", checkWarn},
		{"hidden", with(h200), nodes, "CUDA_VISIBLE_DEVICES=-1", hopper, `hidden by CUDA_VISIBLE_DEVICES="-1": unset it`, checkWarn},
		{"node forbidden", with(h200), []string{"dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0=forbidden"}, "", hopper, "no permission to open /dev/nvidia0: let this user open it: sudo usermod -aG video", checkWarn},
		{"driver forbidden", failing(4), nodes, "", hopper, "the NVIDIA driver refuses this user", checkWarn},
		{"MIG", with(divided), nodes, "", hopper, "MIG is enabled and no instance was made: make one", checkWarn},
		{"taken", with(held), nodes, "", hopper, "its compute mode is exclusive_process; held by trainer (process 77) with 9.0 GiB", checkWarn},
		{"updated and not restarted", failing(18), nodes, "", hopper, "restart the machine", checkWarn},
		{"module not loaded", failing(9), []string{"sys/bus/pci/devices/0/vendor=0x10de\n", "sys/bus/pci/devices/0/class=0x030000\n"}, "", hopper, "kernel module does not run: run sudo modprobe nvidia", checkWarn},
		{"driver without a GPU", failing(9), nil, "", hopper, "no NVIDIA GPU was found", checkOK},
		{"refused by CUDA", with(h200), nodes, "NVIDIA_VISIBLE_DEVICES=none", hopper, `CUDA does not take: 'lm-sandbox -v gpu' shows what CUDA says; this is set: NVIDIA_VISIBLE_DEVICES="none"`, checkWarn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, file := range tt.files {
				name, text, _ := strings.Cut(file, "=")
				if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			fake, err := gputest.Build(t.TempDir(), tt.m)
			if err != nil {
				t.Fatal(err)
			}
			lmSandbox := func(code int, args ...string) (stdout, stderr string) {
				t.Helper()
				cmd := exec.Command("lm-sandbox", args...)
				for _, v := range os.Environ() { // of this machine
					if name, _, _ := strings.Cut(v, "="); !strings.Contains(name, "VISIBLE") && name != "container" && name != "KUBERNETES_SERVICE_HOST" {
						cmd.Env = append(cmd.Env, v)
					}
				}
				cmd.Env = append(cmd.Env, fake.Env(), "GPU_TEST_ROOT="+root, "GPU_TEST_FEATURES="+tt.features, tt.env)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
					t.Fatal(err)
				}
				if got := cmd.ProcessState.ExitCode(); got != code {
					t.Fatalf("%v: exit code %d, want %d\n%s\n%s", args, got, code, &out, &errs)
				}
				return out.String(), errs.String()
			}

			stdout, stderr := lmSandbox(exitGPU, "gpu")
			if !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "lm-sandbox: ") {
				t.Errorf("stderr is %q, want one line with %q", stderr, tt.want)
			}
			if len(tt.m.Returns) == 0 && !strings.Contains(stdout, tt.m.Devices[0].Name) {
				t.Errorf("the GPU is not listed in %q", stdout)
			}

			stdout, _ = lmSandbox(exitGPU, "gpu", "--json")
			var l gpuListing
			if err := json.Unmarshal([]byte(stdout), &l); err != nil {
				t.Fatal(err)
			}
			if problem, _, _ := strings.Cut(tt.want, ": "); l.OK || !strings.Contains(l.Problem+": "+l.Remedy, problem) || l.Remedy == "" {
				t.Errorf("JSON says %+v, want %q", l, problem)
			}

			if l.Problem == "" { // doctor is the same but for its form
				t.Fatal("no problem")
			}
			stdout, _ = lmSandbox(exitOK, "doctor", "--json")
			var d diagnosis
			if err := json.Unmarshal([]byte(stdout), &d); err != nil {
				t.Fatal(err)
			}
			for _, c := range d.Checks {
				if c.Name == "gpu" && (c.Status != tt.status || tt.status == checkWarn && (c.Detail != l.Problem || c.Remedy != l.Remedy)) {
					t.Errorf("doctor says %+v, gpu %+v", c, l)
				}
			}
		})
	}
}

// On the machine at hand: a GPU, or one line that says what is missing.
func TestGPUHere(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run([]string{"gpu"}, stdio{strings.NewReader(""), &stdout, &stderr})
	switch {
	case code == exitOK:
		if stdout.Len() == 0 || stderr.Len() != 0 {
			t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
		}
	case code != exitGPU || strings.Count(stderr.String(), "\n") != 1:
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	case !gpus.host.HasGPU() && !strings.Contains(stderr.String(), "no libnvidia-ml.so.1 (the library of the NVIDIA driver), and no NVIDIA GPU was found"):
		t.Errorf("stderr is %q", &stderr)
	}
}

func TestNoCUDA(t *testing.T) {
	v := func(major, minor int) gpu.Version { return gpu.Version{Major: major, Minor: minor} }
	for _, tt := range []struct {
		driver, capability gpu.Version
		want               string
	}{
		{v(13, 0), v(9, 0), "(make build CUDA=wheels CUDA_ARCHS=90)"},
		{v(13, 0), v(7, 5), "(make build CUDA=wheels CUDA_ARCHS=75)"},
		{v(13, 0), v(7, 0), "(install the CUDA toolkit 12.9, then make build CUDA=1 CUDA_ARCHS=70)"}, // CUDA 13 does not compile for it
		{v(12, 4), v(9, 0), "(install the CUDA toolkit 12.4, then make build CUDA=1 CUDA_ARCHS=90)"},
	} {
		d := gputest.H200()
		d.ComputeCapability = tt.capability
		err := noCUDA(gpu.Report{Driver: gpu.Driver{CUDA: tt.driver}, Devices: []gpu.Device{d}, Usable: []int{0}})
		if !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("CUDA %s, compute capability %s: %v, want %s", tt.driver, tt.capability, err, tt.want)
		}
	}
}

func TestReadFeatures(t *testing.T) {
	v := func(major, minor int) gpu.Version { return gpu.Version{Major: major, Minor: minor} }
	tests := []struct {
		features string
		want     gpuBuild
	}{
		{"CPU : SSE3 = 1 | AVX = 1 | ", gpuBuild{}},
		{"", gpuBuild{}},
		{"CUDA : ARCHS = 900 | NO_VMM = 1 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | ", gpuBuild{CUDA: true, Archs: []gpu.Version{v(9, 0)}}},
		{"CPU : SSE3 = 1 | CUDA : ARCHS = 500,610,750,1200,1210 | ", gpuBuild{CUDA: true, Archs: []gpu.Version{v(5, 0), v(6, 1), v(7, 5), v(12, 0), v(12, 1)}}},
		{"CUDA : FORCE_MMQ = 1 | CPU : ARCHS = 900 | ", gpuBuild{CUDA: true}},
		{"CUDA : ARCHS = none | ", gpuBuild{CUDA: true}},
		{"NOTCUDA : ARCHS = 900 | ", gpuBuild{}},
	}
	for _, tt := range tests {
		got := readFeatures(tt.features)
		if got.CUDA != tt.want.CUDA || len(got.Archs) != len(tt.want.Archs) {
			t.Errorf("%q: %+v", tt.features, got)
			continue
		}
		for i := range got.Archs {
			if got.Archs[i] != tt.want.Archs[i] {
				t.Errorf("%q: %+v", tt.features, got)
			}
		}
	}
}

func TestLinkedCUDA(t *testing.T) {
	dir := t.TempDir()
	cc := func(output, source string, flags ...string) {
		t.Helper()
		cmd := exec.Command("cc", append([]string{"-x", "c", "-", "-o", filepath.Join(dir, output)}, flags...)...)
		cmd.Stdin = strings.NewReader(source)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cc("libcublas.so", "int cublas(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libcublas.so.12")
	cc("with", "int cublas(void); int main(void) { return cublas(); }", "-L"+dir, "-lcublas")
	cc("without", "int main(void) { return 0; }")
	for name, want := range map[string]int{"with": 12, "without": 0, "missing": 0} {
		if got := linkedCUDA(filepath.Join(dir, name)); got.Major != want {
			t.Errorf("%s: CUDA %d, want %d", name, got.Major, want)
		}
	}
}

func TestGPUPreflight(t *testing.T) {
	reason := &gpuProblem{"it is old", "buy another"}
	full := &gpuProblem{"others hold its memory", "end them"}
	gpuNeed := llama.MemoryNeed{NGPULayers: 3, Devices: []llama.DeviceMemory{{Device: llama.Device{Type: "gpu"}}, {Device: llama.Device{Type: "cpu"}}}}
	cpuNeed := llama.MemoryNeed{Devices: gpuNeed.Devices[1:]}
	fullNeed := llama.MemoryNeed{Devices: gpuNeed.Devices}
	fullNeed.Devices[1].Mapped = 7 << 30
	tests := []struct {
		name   string
		layers gpuLayers
		need   llama.MemoryNeed
		err    error // of the inspection
		code   int   // of the error; 0: none
		note   string
	}{
		{"a GPU takes part", llama.AllLayers, gpuNeed, reason, 0, ""},
		{"no layer fits", llama.Auto, fullNeed, nil, 0, "lm-sandbox: no GPU is used: others hold its memory: end them\n"},
		{"no layer fits, all wanted", llama.AllLayers, fullNeed, nil, 0, ""},
		{"nobody knows a remedy", llama.Auto, cpuNeed, errors.New("it is odd"), 0, "lm-sandbox: no GPU is used: it is odd\n"},
		{"none does, automatically", llama.Auto, cpuNeed, reason, 0, "lm-sandbox: no GPU is used: it is old: buy another\n"},
		{"none does, all wanted", llama.AllLayers, cpuNeed, reason, exitGPU, ""},
		{"none does, some wanted", 7, cpuNeed, reason, exitGPU, ""},
		{"the driver has no objection", 7, cpuNeed, nil, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var notes bytes.Buffer
			p := &gpuPreflight{
				layers:  tt.layers,
				inspect: func() gpuState { return gpuState{err: tt.err} },
				check: func(r gpu.Requirements) (gpu.Report, error) {
					if r.FreeMemory != 7<<30 {
						t.Errorf("asked for %d bytes", r.FreeMemory)
					}
					return gpu.Report{}, full
				},
				notes: &notes,
			}
			err := p.CheckModel(t.Context(), tt.need)
			if (err != nil) != (tt.code != 0) || err != nil && asFailure(modelFailure(err)).code != tt.code {
				t.Errorf("error %v, want code %d", err, tt.code)
			}
			if err != nil && !errors.Is(err, reason) {
				t.Errorf("error %v does not tell the reason", err)
			}
			if notes.String() != tt.note {
				t.Errorf("notes %q, want %q", &notes, tt.note)
			}
		})
	}

	withCUDA := func() (gpuBuild, error) { return gpuBuild{CUDA: true}, nil }
	without := func() (gpuBuild, error) { return gpuBuild{}, nil }
	nothing := host(nil)
	card := host(map[string]string{"proc/driver/nvidia/version": ""})
	for _, tt := range []struct {
		name   string
		layers gpuLayers
		probe  gpuProbe
		asked  bool
	}{
		{"no GPU wanted", llama.NoLayers, gpuProbe{host: gpu.Host{Root: card}, build: withCUDA}, false},
		{"no GPU expected", llama.Auto, gpuProbe{host: gpu.Host{Root: nothing}, build: without}, false},
		{"built for one", llama.Auto, gpuProbe{host: gpu.Host{Root: nothing}, build: withCUDA}, true},
		{"one is here", llama.Auto, gpuProbe{host: gpu.Host{Root: card}, build: without}, true},
		{"one is wanted", llama.AllLayers, gpuProbe{host: gpu.Host{Root: nothing}, build: without}, true},
	} {
		if got := tt.probe.preflight(tt.layers, io.Discard); (got != nil) != tt.asked {
			t.Errorf("%s: preflight %v, want %v", tt.name, got != nil, tt.asked)
		}
	}
}

func TestCheckGPU(t *testing.T) {
	tests := []struct {
		name string
		s    gpuState
		want check
	}{
		{"used", gpuState{used: []usedGPU{{"CUDA0", "NVIDIA H200", 3 << 20, 4 << 20}, {"CUDA1", "NVIDIA H200", 1 << 20, 4 << 20}}},
			check{Name: "gpu", Status: checkOK, Detail: "CUDA0 NVIDIA H200, 3 of 4 MiB free; CUDA1 NVIDIA H200, 1 of 4 MiB free"}},
		{"none", gpuState{err: &gpu.ErrNoDriver{Problem: "p", Remedy: "r"}}, check{Name: "gpu", Status: checkOK, Detail: "none found; the processor computes"}},
		{"without a driver", gpuState{err: &gpu.ErrNoDriver{Problem: "p", Remedy: "r", HasGPU: true}}, check{Name: "gpu", Status: checkWarn, Detail: "p", Remedy: "r"}},
		{"other", gpuState{err: &gpuProblem{"p", "r"}}, check{Name: "gpu", Status: checkWarn, Detail: "p", Remedy: "r"}},
	}
	for _, tt := range tests {
		if got := checkGPU(tt.s); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestWriteGPUs(t *testing.T) {
	d := gputest.H200()
	d.Processes = []gpu.Process{{PID: 12, Name: "/usr/bin/python3", Memory: 3 << 30}, {PID: 13}}
	parted := gputest.H200()
	parted.Index, parted.MIG = 1, gpu.MIG{Enabled: true, Instances: []gpu.MIGInstance{{UUID: "MIG-1", Name: "1g.18gb", Memory: gpu.Memory{Total: 16 << 30, Free: 15 << 30}}}}
	s := gpuState{
		build: gpuBuild{CUDA: true, Toolkit: gpu.Version{Major: 12}, Archs: []gpu.Version{{Major: 9}}},
		used:  []usedGPU{{"CUDA0", "NVIDIA H200", 3 << 20, 4 << 20}},
		report: gpu.Report{
			Driver: gpu.Driver{Version: "550", CUDA: gpu.Version{Major: 12, Minor: 4}},
			Devices: []gpu.Device{d, parted, {Index: 2, Name: "GB10", ComputeCapability: gpu.Version{Major: 12, Minor: 1}},
				{Index: 3, Err: &gpu.ErrNVML{Call: "nvmlDeviceGetHandleByIndex", Text: "lost", Code: 15}}},
			Usable:   []int{0, 1, 2},
			Refusals: []*gpu.Refusal{{Device: 3, Reason: gpu.ReasonNoAnswer, Text: "lost", Remedy: "restart"}},
		},
	}
	var b bytes.Buffer
	if err := writeGPUs(&b, s.listing()); err != nil {
		t.Fatal(err)
	}
	want := `driver 550, runs CUDA 12.4; llama.cpp is built with CUDA 12 for compute capability 9.0
llama.cpp computes on CUDA0 NVIDIA H200, 3 of 4 MiB free
GPU 0         NVIDIA H200  compute capability 9.0   139.9 GiB of 140.4 GiB free  usable
  process 12  python3                               3.0 GiB
  process 13  unknown                               memory unknown
GPU 1         NVIDIA H200  compute capability 9.0   139.9 GiB of 140.4 GiB free  usable
  MIG-1       1g.18gb                               15.0 GiB of 16.0 GiB free
GPU 2         GB10         compute capability 12.1  memory unknown               usable
GPU 3                      lost
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}
