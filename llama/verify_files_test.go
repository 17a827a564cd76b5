//go:build !long

package llama_test

const verifyFiles = 600
