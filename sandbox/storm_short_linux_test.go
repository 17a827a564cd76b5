//go:build !long

package sandbox

const stormRuns = 150
