package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every text that docs/gpu.md says is ours stands in the code.
func TestGPUDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/gpu.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "| It says |")
	table, _, found := strings.Cut(table, "What others say:")
	if !found {
		t.Fatal("docs/gpu.md has another form")
	}
	var code strings.Builder
	for _, pattern := range []string{"*.go", "../../gpu/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	// Names and parts that the code puts together.
	said := strings.NewReplacer("libnvidia-ml.so.1 (", `" + library + " (`, "libcuda.so.1 cannot", `" + cudaLibraryName + " cannot`,
		"runs on nouveau", `runs on "+driver`, "/dev/nvidia0", "", "no /dev/nvidia-uvm", `"no /dev/" + name`)
	quoted := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 3 {
			continue
		}
		rows++
		for _, text := range quoted.FindAllStringSubmatch(cells[0], -1) {
			if !strings.Contains(code.String(), said.Replace(text[1])) {
				t.Errorf("nothing says %q", text[1])
			}
		}
	}
	if rows < 25 {
		t.Errorf("%d rows", rows)
	}
}
