package main

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"
)

// go-nvml tells the linker to leave unresolved what only the driver has. That holds for the whole program, so that a
// function that llama.cpp lacks is no error of the linker any more: this test is.
func TestNothingElseUnresolved(t *testing.T) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	cuda := slices.ContainsFunc(libraries, func(name string) bool { return strings.HasPrefix(name, "libcublas.so.") })
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	nvml := 0
	for _, s := range symbols {
		switch {
		case s.Library != "": // found in it, by version
		case strings.HasPrefix(s.Name, "nvml"):
			nvml++
		case cuda && strings.HasPrefix(s.Name, "cublas"): // whose symbols have no versions
		default:
			t.Errorf("%s is in no library", s.Name)
		}
	}
	if nvml == 0 {
		t.Error("no function of NVML is left to the driver: what does this test look at?")
	}
}
