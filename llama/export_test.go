package llama

// ReadMainMemory is readMainMemory, for tests.
var ReadMainMemory = readMainMemory

// LimitMainMemory makes the package believe in so much main memory until restore is called.
func LimitMainMemory(free, total uint64) (restore func()) {
	before := mainMemory
	mainMemory = func() (uint64, uint64) { return free, total }
	return func() { mainMemory = before }
}
