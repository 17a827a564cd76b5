// Package seccomp holds the sandbox's system call filters, generated from
// package policy for each architecture.
package seccomp

//go:generate go run ./gen

// Filter returns the program for this architecture, as the kernel's array of
// struct sock_filter. It is empty where there is none.
func Filter() []byte { return namespaces }

// FilterLandlock returns the stricter program for a payload that has no
// namespaces: no sockets but pairs, nothing that reaches past Landlock to the
// caller's other files and processes.
func FilterLandlock() []byte { return landlock }
