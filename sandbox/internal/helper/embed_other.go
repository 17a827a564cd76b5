//go:build !linux || !(amd64 || arm64)

package helper

var binary []byte
