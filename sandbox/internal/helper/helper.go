// Package helper holds the sandbox helper: the C program in src, the
// binaries that 'make helper' builds from it, and the sealed file in memory
// from which it is executed.
package helper

// Binary returns the helper for this architecture; it is empty where there is none.
func Binary() []byte { return binary }
