package main

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// host is a root directory with these files.
func host(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestCheckProcessor(t *testing.T) {
	needed := llamacpp.CPUFlags(runtime.GOARCH)
	if len(needed) == 0 {
		if c := checkProcessor(host(nil)); c.Status != checkOK {
			t.Errorf("%s needs nothing, got %+v", runtime.GOARCH, c)
		}
		return
	}
	cpuinfo := func(flags []string) map[string]string {
		return map[string]string{"proc/cpuinfo": "processor\t: 0\nvmx flags\t: x\nflags\t\t: fpu " + strings.Join(flags, " ") + " lm\n\nprocessor\t: 1\n"}
	}
	if c := checkProcessor(host(cpuinfo(needed))); c.Status != checkOK {
		t.Errorf("a processor with all it needs: %+v", c)
	}
	c := checkProcessor(host(cpuinfo(needed[1:])))
	if c.Status != checkFail || c.code != exitModel || c.Remedy == "" || c.Detail != "it lacks "+needed[0] {
		t.Errorf("a processor without %s: %+v", needed[0], c)
	}
	if c := checkProcessor(host(nil)); c.Status != checkWarn {
		t.Errorf("without /proc: %+v", c)
	}
}

func TestExplainNoGPU(t *testing.T) {
	card := map[string]string{
		"sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n", "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
		"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n", "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
	}
	other := map[string]string{ // the sound of an NVIDIA card, and a card of another maker
		"sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n", "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
		"sys/bus/pci/devices/0000:02:00.0/vendor": "0x1002\n", "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
	}
	driver := map[string]string{"proc/driver/nvidia/version": "NVRM version: …\n"}
	nodes := map[string]string{"dev/nvidiactl": "", "dev/nvidia0": ""}
	join := func(all ...map[string]string) map[string]string {
		files := map[string]string{}
		for _, m := range all {
			for name, text := range m {
				files[name] = text
			}
		}
		return files
	}
	tests := []struct {
		name   string
		files  map[string]string
		cuda   bool
		status string
		remedy string // part of it
	}{
		{"nothing", nil, false, checkOK, ""},
		{"no NVIDIA display", other, true, checkOK, ""},
		{"no driver", card, true, checkWarn, "install the NVIDIA driver"},
		{"no device nodes", join(card, driver), true, checkWarn, "--gpus all"},
		{"no CUDA", join(card, driver, nodes), false, checkWarn, "CUDA=1"},
		{"no PCI bus, no CUDA", join(driver, nodes), false, checkWarn, "CUDA=1"},
		{"refused", join(card, driver, nodes), true, checkWarn, "nvidia-smi"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := explainNoGPU(host(tt.files), tt.cuda)
			if c.Status != tt.status || !strings.Contains(c.Remedy, tt.remedy) || (tt.remedy == "") != (c.Remedy == "") {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestWriteChecks(t *testing.T) {
	var b bytes.Buffer
	if err := writeChecks(&b, []check{{Name: "a", Status: checkOK, Detail: "fine"}, {Name: "long", Status: checkWarn, Detail: "bad", Remedy: "do this"}}); err != nil {
		t.Fatal(err)
	}
	if want := "ok    a     fine\nwarn  long  bad\n            remedy: do this\n"; b.String() != want {
		t.Errorf("got %q, want %q", &b, want)
	}
}
