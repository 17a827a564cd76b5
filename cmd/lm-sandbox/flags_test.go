package main

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func TestGPULayers(t *testing.T) {
	for text, want := range map[string]gpuLayers{"auto": llama.Auto, "all": llama.AllLayers, "none": llama.NoLayers, "12": 12} {
		var g gpuLayers
		if err := g.Set(text); err != nil || g != want || g.String() != text {
			t.Errorf("%s: got %d, %q, %v; want %d", text, g, g.String(), err, want)
		}
	}
	// 0 is Auto in the library; as a number of layers it is none.
	var g gpuLayers
	if err := g.Set("0"); err != nil || g != llama.NoLayers {
		t.Errorf("0: got %d, %v", g, err)
	}
	for _, text := range []string{"", "-1", "1.5", "most", "99999999999"} {
		if err := g.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, g)
		}
	}
}

func TestSeed(t *testing.T) {
	value := llama.RandomSeed
	s := seed{&value}
	for text, want := range map[string]uint32{"random": llama.RandomSeed, "0": 0, "4294967294": 4294967294} {
		if err := s.Set(text); err != nil || value != want || s.String() != text {
			t.Errorf("%s: got %d, %q, %v", text, value, s.String(), err)
		}
	}
	for _, text := range []string{"", "-1", "4294967296", "x"} {
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken as %d", text, value)
		}
	}
}

// Without flags the samplers are those of llama.cpp's tools.
func TestSamplingFlags(t *testing.T) {
	var f samplingFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.register(fs)
	if err := fs.Parse([]string{"--temp", "0", "--seed", "7"}); err != nil {
		t.Fatal(err)
	}
	want := llama.DefaultSamplerParams()
	want.Temperature, want.Seed = 0, 7
	got := f.params
	if got.Temperature != want.Temperature || got.Seed != want.Seed || got.TopK != want.TopK || got.TopP != want.TopP || got.MinP != want.MinP {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Every flag reaches its field, and what is not given is the library's default.
func TestSandboxFlags(t *testing.T) {
	var f sandboxFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.register(fs)
	limits := sandbox.Limits{
		Wall: sandbox.DefaultWall, CPU: sandbox.DefaultCPU, Memory: sandbox.DefaultMemory, Pids: sandbox.DefaultPids,
		Disk: sandbox.DefaultDisk, Files: sandbox.DefaultFiles, Output: sandbox.DefaultOutput,
	}
	if c := f.config(); c.Limits != limits || c.Root != "" || c.Workspace != "" || len(c.Binds)+len(c.Env) != 0 {
		t.Errorf("without flags: %+v", c)
	}
	err := fs.Parse([]string{
		"--workspace", "w", "--root", "r", "--dir", "/d", "--helper", "h", "--env", "A=b=c", "--bind", "/a:/b", "--bind", "/c:/d:rw",
		"--timeout", "1s", "--cpu", "2s", "--mem", "3K", "--disk", "4M", "--output", "5", "--pids", "6", "--files", "7", "--stop-at-output",
		"--device", "/dev/nvidia0", "--device", "nvidia", "--min-level", "cgroup", "--audit", "a",
		"--workspace-bytes", "8K", "--workspace-files", "9", "--cpus", "0.5", "--read-rate", "1K", "--write-rate", "2K", "--allow", "example.com", "--allow", "*.org:443", "--protect", ".envrc", "--protect", "default",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := f.config()
	if want := (sandbox.Limits{Wall: 1e9, CPU: 2e9, Memory: 3 << 10, Disk: 4 << 20, Output: 5, Pids: 6, Files: 7, CPUs: 0.5, ReadRate: 1 << 10, WriteRate: 2 << 10, Workspace: 8 << 10, WorkspaceFiles: 9}); c.Limits != want {
		t.Errorf("limits %+v, want %+v", c.Limits, want)
	}
	if c.Workspace != "w" || c.Root != "r" || c.Dir != "/d" || c.HelperPath != "h" || c.Env["A"] != "b=c" || !c.StopAtOutput {
		t.Errorf("got %+v", c)
	}
	if len(c.Devices) < 2 || c.Devices[0] != "/dev/nvidia0" || c.Devices[1] == "nvidia" || c.MinLevel != sandbox.LevelCgroup || c.Audit != nil || f.audit != "a" {
		t.Errorf("devices %q, level %s, audit %v, %q", c.Devices, c.MinLevel, c.Audit, f.audit)
	}
	if c.Net != sandbox.NetAllowList || len(c.Allow.Rules) != 2 || len(c.Protect) < 3 || c.Protect[1] == "default" {
		t.Errorf("net %d, rules %q, protected %q", c.Net, c.Allow.Rules, c.Protect)
	}
	f.hostNet = true
	if c := f.config(); c.Net != sandbox.NetHost {
		t.Errorf("net %d", c.Net)
	}
	binds := []sandbox.Bind{{Source: "/a", Target: "/b"}, {Source: "/c", Target: "/d", Writable: true}}
	if len(c.Binds) != 2 || c.Binds[0] != binds[0] || c.Binds[1] != binds[1] {
		t.Errorf("binds %+v, want %+v", c.Binds, binds)
	}
	for field, flag := range configFlags {
		if fs.Lookup(flag) == nil && flag != "command" {
			t.Errorf("%s is told to be --%s, which is no flag", field, flag)
		}
	}
}
