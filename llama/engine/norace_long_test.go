//go:build long && !race

package engine_test

const raceDetector = false
