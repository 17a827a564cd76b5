//go:build long

package sandbox

const stormRuns = 10_000
