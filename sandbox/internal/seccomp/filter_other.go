//go:build !amd64 && !arm64

package seccomp

var namespaces, landlock []byte
