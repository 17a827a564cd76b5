package llama

// MemoryNeed is what a model and one context of it take of each device's memory, as llama.cpp computes it without allocating
// anything, and what of it is free.
type MemoryNeed struct {
	Path       string // of the model
	NGPULayers int    // layers that are kept on GPUs, the output layer counted; 0 on a machine without one
	NLayer     int    // layers of the model, the output layer not counted
	NCtx       int    // positions of the context over all sequences
	// Devices are the GPUs that take part, in llama.cpp's order, and main memory last.
	Devices []DeviceMemory
}

// DeviceMemory is the part of a [MemoryNeed] that one device has. All sizes are bytes.
type DeviceMemory struct {
	Device        // Name is ggml's, such as CUDA0 and CPU; of main memory MemoryFree is what this process may still take
	ID     string // a GPU's PCI address, such as 0000:3b:00.0; "" where llama.cpp knows none

	Weights uint64 // allocated for tensors
	Mapped  uint64 // tensors that stay in the mapped file: the system may drop and read them again, so Need leaves them out
	Context uint64 // KV cache or recurrent state
	Compute uint64 // buffers of a step
}

// Need is what is going to be allocated on the device.
func (d DeviceMemory) Need() uint64 { return d.Weights + d.Context + d.Compute }
