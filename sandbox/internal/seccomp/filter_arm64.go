package seccomp

import _ "embed"

//go:embed filter_arm64.bin
var filter []byte
