// Package seccomp holds the sandbox's system call filter, generated from
// package policy for each architecture.
package seccomp

//go:generate go run ./gen

// Filter returns the program for this architecture, as the kernel's array of
// struct sock_filter. It is empty where there is none.
func Filter() []byte { return filter }
