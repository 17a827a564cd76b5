package sandbox

// A 64-bit process has no other ABI's entry here.
var foreignABI []attack
