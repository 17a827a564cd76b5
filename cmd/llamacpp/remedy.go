package main

import (
	"errors"
	"strings"
	"syscall"
)

// remedies say what to do about what other programs print when they fail.
var remedies = []struct{ text, remedy string }{
	{"No space left on device", diskFull},
	{"Disk quota exceeded", diskFull},
	{"unsupported GNU version", "this nvcc takes no compiler as new as that: name an older one (CC=gcc-13 CXX=g++-13), or use a newer CUDA_VERSION"},
	{"unsupported clang version", "this nvcc takes no compiler as new as that: name another one (CC=gcc-13 CXX=g++-13), or use a newer CUDA_VERSION"},
	{"connection broken by", "pip reaches no package index: check the network, or install NVIDIA's toolkit and set CUDA=1"}, // it says the next, too
	{"No matching distribution found for cuda-toolkit", "pip finds no such CUDA for this machine: choose a CUDA_VERSION from 13.0 on (pip index versions cuda-toolkit lists them), or install NVIDIA's toolkit and set CUDA=1"},
	{"No matching distribution found for nvidia-", "pip finds no such CUDA for this machine: choose a CUDA_VERSION from 13.0 on, or install NVIDIA's toolkit and set CUDA=1"},
	{"died due to signal 9", outOfMemory},
	{"Killed signal terminated program", outOfMemory},
}

const (
	diskFull    = "the disk is full: free some space (a build for the CPU takes 0.5 GB in the cache, one for CUDA 2 GB, twice that while it is made), or set XDG_CACHE_HOME to another disk"
	outOfMemory = "the compiler ran out of memory: run it again with fewer at once, for example CMAKE_BUILD_PARALLEL_LEVEL=2"
)

// remedy returns what to do about err, "" where it says so itself.
func remedy(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return diskFull
	}
	var failed *childError
	if !errors.As(err, &failed) {
		return ""
	}
	output := strings.Join(failed.last, "\n")
	for _, r := range remedies {
		if strings.Contains(output, r.text) {
			return r.remedy
		}
	}
	return ""
}
