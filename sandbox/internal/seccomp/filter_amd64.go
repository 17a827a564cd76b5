package seccomp

import _ "embed"

//go:embed filter_amd64.bin
var filter []byte
