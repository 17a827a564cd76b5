package seccomp

import _ "embed"

//go:embed namespaces_amd64.bin
var namespaces []byte

//go:embed landlock_amd64.bin
var landlock []byte
