//go:build linux && !amd64

package sandbox

// A process has no other ABI's entry here.
var foreignABI []attack

var oldCalls []string

const uprobeCall = -1
