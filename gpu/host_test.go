package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func noEnv(string) (string, bool) { return "", false }

// machineRoot is a root directory with these files; "link -> target" is a symbolic link.
func machineRoot(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			root[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
			continue
		}
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func join(all ...map[string]string) map[string]string {
	files := map[string]string{}
	for _, m := range all {
		for name, text := range m {
			files[name] = text
		}
	}
	return files
}

func TestNoDriver(t *testing.T) {
	const pci = "sys/bus/pci/devices/"
	card := map[string]string{
		pci + "0000:00:02.0/vendor": "0x8086\n", pci + "0000:00:02.0/class": "0x030000\n",
		pci + "0000:01:00.0/vendor": "0x10de\n", pci + "0000:01:00.0/class": "0x030200\n",
	}
	other := map[string]string{ // the sound of an NVIDIA card, and a card of another maker
		pci + "0000:01:00.1/vendor": "0x10de\n", pci + "0000:01:00.1/class": "0x040300\n",
		pci + "0000:02:00.0/vendor": "0x1002\n", pci + "0000:02:00.0/class": "0x030000\n",
	}
	boundTo := func(driver string) map[string]string {
		return map[string]string{pci + "0000:01:00.0/driver": "-> ../../../bus/pci/drivers/" + driver}
	}
	module := map[string]string{"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15\n"}
	nodes := map[string]string{"dev/nvidiactl": "", "dev/nvidia0": ""}
	container := map[string]string{".dockerenv": ""}
	wsl := map[string]string{"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n", "dev/dxg": ""}
	missing := errors.New("libnvidia-ml.so.1: cannot open shared object file: No such file or directory")

	tests := []struct {
		name            string
		files           map[string]string
		hasGPU          bool
		problem, remedy string // parts of them, where the library cannot be opened
		noModule        string // part of the error where the library finds no driver behind it
	}{
		{"nothing", nil, false, "no NVIDIA GPU was found", "nothing to do without one", "no NVIDIA GPU was found: see that lspci"},
		{"no NVIDIA display", other, false, "no NVIDIA GPU was found", "nothing to do", "no NVIDIA GPU was found"},
		{"card", card, true, "although an NVIDIA GPU is here", "ubuntu-drivers install", "kernel module does not run: run sudo modprobe nvidia"},
		{"nouveau", join(card, boundTo("nouveau")), true, "nouveau", "ubuntu-drivers install", "the GPU runs on nouveau: restart"},
		{"vfio", join(card, boundTo("vfio-pci")), true, "virtual machine", "unbind", "the GPU runs on vfio-pci"},
		{"module, no libraries", join(card, module, nodes, boundTo("nvidia")), true, "kernel module runs", "libnvidia-compute", "kernel module does not run"},
		{"module, no nodes", join(card, module, boundTo("nvidia")), true, "kernel module runs", "libnvidia-compute", "/dev/nvidiactl is missing: run sudo nvidia-modprobe"},
		{"container without GPUs", join(card, module, container), true, "no /dev/nvidiactl in this container", "--gpus all", "not in this container: start the container with its GPUs"},
		{"container with devices only", join(module, nodes, container), true, "in this container, although the GPUs are", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "--gpus all"},
		{"WSL", wsl, true, "in WSL", "driver in Windows", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := Host{Root: machineRoot(tt.files), LookupEnv: noEnv}
			err := h.noLibrary(libraryName, missing)
			assert.Equal(t, tt.hasGPU, err.HasGPU)
			assert.Contains(t, err.Problem, "no libnvidia-ml.so.1")
			assert.Contains(t, err.Problem, tt.problem)
			assert.Contains(t, err.Remedy, tt.remedy)
			assert.NotContains(t, err.Error(), "\n")
			assert.ErrorIs(t, err, missing)
			assert.ErrorContains(t, h.noModule(libraryName, missing), tt.noModule)
		})
	}

	err := Host{Root: machineRoot(card), LookupEnv: noEnv}.noLibrary(libraryName, errors.New("/lib/x.so: wrong ELF class: ELFCLASS32"))
	assert.ErrorContains(t, err, "cannot be loaded (/lib/x.so: wrong ELF class: ELFCLASS32): install the driver's packages again")
	assert.True(t, err.HasGPU)
}

func TestInContainer(t *testing.T) {
	for variable, want := range map[string]bool{"container": true, "KUBERNETES_SERVICE_HOST": true, "HOME": false} {
		h := Host{Root: machineRoot(nil), LookupEnv: func(name string) (string, bool) {
			if name == variable {
				return "x", true
			}
			return "", false
		}}
		assert.Equal(t, want, h.inContainer(), variable)
	}
	assert.True(t, Host{Root: machineRoot(map[string]string{"run/.containerenv": ""}), LookupEnv: noEnv}.inContainer())
}

func TestPermission(t *testing.T) {
	cause := errors.New("refused")
	err := Host{Root: machineRoot(nil), LookupEnv: noEnv}.permission("/dev/nvidia0", cause)
	assert.EqualError(t, err, "gpu: no permission to open /dev/nvidia0: let this user open it: sudo usermod -aG video $USER (see the group of 'ls -l /dev/nvidia*'), then log in again")
	assert.ErrorIs(t, err, cause)
	assert.ErrorContains(t, Host{Root: machineRoot(map[string]string{".dockerenv": ""}), LookupEnv: noEnv}.permission("", cause), "the NVIDIA driver refuses this user: start the container with its GPUs")
}

func TestVisible(t *testing.T) {
	same := []Device{{Index: 0, Name: "A", UUID: "GPU-aa1"}, {Index: 1, Name: "A", UUID: "GPU-ab2"}, {Index: 2, Name: "A", UUID: "GPU-c",
		MIG: MIG{Enabled: true, Instances: []MIGInstance{{UUID: "MIG-1"}, {UUID: "MIG-2"}}}}}
	mixed := []Device{{Index: 0, Name: "A", UUID: "GPU-a"}, {Index: 1, Name: "B", UUID: "GPU-b"}}
	tests := []struct {
		value   string // "unset" is that
		order   string
		devices []Device
		want    string // 1 for each visible device
		part    int    // of device 2
	}{
		{"unset", "", same, "111", 0},
		{"", "", same, "000", 0},
		{"-1", "", same, "000", 0},
		{"NoDevFiles", "", same, "000", 0},
		{"0", "", same, "100", 0},
		{"2,0", "", same, "101", 0},
		{" 1 , 2 ", "", same, "011", 0},
		{"0,-1,1", "", same, "100", 0},
		{"0,7,1", "", same, "100", 0},
		{"0,1,0", "", same, "000", 0},
		{"0,,1", "", same, "100", 0},
		{"+1", "", same, "000", 0},
		{"99999999999999999999", "", same, "000", 0},
		{"GPU-aa", "", same, "100", 0},
		{"GPU-a", "", same, "000", 0}, // of two devices
		{"GPU-ab2,GPU-aa1", "", same, "110", 0},
		{"GPU-ab2,1", "", same, "000", 0},
		{"MIG-2", "", same, "001", 1},
		{"MIG-1,MIG-2", "", same, "001", 0},
		{"MIG-3", "", same, "000", 0},
		{"A", "", same, "000", 0},
		{"0", "", mixed, "11", 0}, // the fastest, whichever it is
		{"0", "PCI_BUS_ID", mixed, "10", 0},
		{"1", "PCI_BUS_ID", mixed, "01", 0},
		{"GPU-b", "", mixed, "01", 0},
		{"0", "", nil, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.value+" "+tt.order, func(t *testing.T) {
			v := visible(func(name string) (string, bool) {
				if name == "CUDA_DEVICE_ORDER" {
					return tt.order, tt.order != ""
				}
				return tt.value, tt.value != "unset"
			}, tt.devices)
			got := ""
			for _, d := range tt.devices {
				got += map[bool]string{true: "1", false: "0"}[v.has(d.Index)]
			}
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.part, v.instance(2))
		})
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "0", "1,GPU-b", "MIG-1,0", ",", "-1"} {
		f.Add(s)
	}
	devices := []Device{{Index: 0, Name: "A", UUID: "GPU-a", MIG: MIG{Enabled: true, Instances: []MIGInstance{{UUID: "MIG-1"}, {UUID: "MIG-2"}}}}, {Index: 1, Name: "A", UUID: "GPU-b"}}
	f.Fuzz(func(t *testing.T, s string) {
		v := visible(func(string) (string, bool) { return s, true }, devices)
		for device, part := range v.parts {
			if device < 0 || device > 1 || part < 0 || part > 1 || device == 1 && part == 1 {
				t.Errorf("%q shows instance %d of device %d", s, part, device)
			}
		}
	})
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err             error
		problem, remedy string
	}{
		{nil, "", ""},
		{ErrClosed, "use after Close", ""},
		{fmt.Errorf("asking: %w", &ErrNoDriver{Problem: "none", Remedy: "install it"}), "none", "install it"},
	} {
		problem, remedy := Explain(tt.err)
		assert.Equal(t, []string{tt.problem, tt.remedy}, []string{problem, remedy})
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]Version{"12": {12, 0}, "12.9": {12, 9}, "9.0": {9, 0}, "0": {}} {
		v, err := ParseVersion(text)
		require.NoError(t, err)
		assert.Equal(t, want, v)
	}
	for _, text := range []string{"", ".", "12.", "a", "-1", "12.9.1", "12.x", "70000", " 12"} {
		_, err := ParseVersion(text)
		assert.ErrorContains(t, err, "gpu: version", text)
	}
	assert.Negative(t, Version{9, 0}.Compare(Version{10, 0}))
	assert.Positive(t, Version{12, 4}.Compare(Version{12, 0}))
	same := Version{12, 4}
	assert.Zero(t, same.Compare(Version{12, 4}))
	text, err := json.Marshal([]Version{{12, 9}, {}})
	require.NoError(t, err)
	assert.JSONEq(t, `["12.9", ""]`, string(text))
	var back []Version
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, []Version{{12, 9}, {}}, back)
	assert.Error(t, json.Unmarshal([]byte(`["x"]`), &back))
}
