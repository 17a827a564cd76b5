package main

import (
	"bytes"
	"os"
	"path/filepath"
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

func TestWriteChecks(t *testing.T) {
	var b bytes.Buffer
	if err := writeChecks(&b, []check{{Name: "a", Status: checkOK, Detail: "fine"}, {Name: "long", Status: checkWarn, Detail: "bad", Remedy: "do this"}}); err != nil {
		t.Fatal(err)
	}
	if want := "ok    a     fine\nwarn  long  bad\n            remedy: do this\n"; b.String() != want {
		t.Errorf("got %q, want %q", &b, want)
	}
}

func TestInstallHelper(t *testing.T) {
	dir := t.TempDir()
	path, profiles := filepath.Join(dir, "helper"), filepath.Join(dir, "apparmor.d")
	install := func() string {
		t.Helper()
		var out strings.Builder
		if err := installHelper(&out, path, profiles); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if out := install(); !strings.Contains(out, "no AppArmor") {
		t.Error(out)
	}
	if err := os.Mkdir(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := install(); !strings.Contains(out, "apparmor_parser -r "+profiles) {
		t.Error(out)
	}
	b, err := os.ReadFile(filepath.Join(profiles, "lm-sandbox-helper"))
	if err != nil || !strings.Contains(string(b), path) {
		t.Error(err, string(b))
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o755 {
		t.Error(st, err)
	}
}
