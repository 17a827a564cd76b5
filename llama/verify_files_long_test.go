//go:build long

package llama_test

import "math/rand/v2"

const verifyFiles = 100_000

// verifySeed gives other files each time.
func verifySeed() uint64 { return rand.Uint64() }
