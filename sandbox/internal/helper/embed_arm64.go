//go:build linux

package helper

import _ "embed"

//go:embed helper_arm64
var binary []byte
