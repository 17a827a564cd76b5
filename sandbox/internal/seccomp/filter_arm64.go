package seccomp

import _ "embed"

//go:embed namespaces_arm64.bin
var namespaces []byte

//go:embed landlock_arm64.bin
var landlock []byte
