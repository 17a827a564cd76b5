package llama

import "github.com/lm-sandbox/lm-sandbox/llama/internal/native"

// ReadMainMemory is readMainMemory, for tests.
var ReadMainMemory = readMainMemory

// FitMargin is DeviceMemory.fitMargin, for tests.
var FitMargin = DeviceMemory.fitMargin

// LimitMemory makes the package believe in so much memory of a device until restore is called.
func LimitMemory(device string, free, total uint64) (restore func()) {
	before := readMemory
	readMemory = func(d native.Device) (uint64, uint64) {
		if d.Name == device {
			return free, total
		}
		return before(d)
	}
	return func() { readMemory = before }
}
