package llama

import (
	"context"
	"slices"
)

// MemoryNeed is what a model and one context of it take of each device's memory, as llama.cpp computes it without allocating
// anything, and what of it is free.
type MemoryNeed struct {
	Path       string // of the model
	LoadMode   LoadMode
	NGPULayers int // layers that are kept on GPUs, the output layer counted; 0 on a machine without one
	NLayer     int // layers of the model, the output layer not counted
	NCtx       int // positions of the context over all sequences
	// Devices are the GPUs that take part, in llama.cpp's order, and main memory last.
	Devices []DeviceMemory
}

// DeviceMemory is the part of a [MemoryNeed] that one device has. All sizes are bytes.
type DeviceMemory struct {
	// Device's Name is ggml's, such as CUDA0 and CPU. Of main memory MemoryFree is what the machine and the process's cgroups
	// have left, without swap, and MemoryTotal the least of the machine's memory and their limits.
	Device

	Weights uint64 // allocated for tensors
	Mapped  uint64 // tensors that stay in the mapped file: the system may drop and read them again
	Context uint64 // KV cache or recurrent state
	Compute uint64 // buffers of a step
}

// Need is what is going to be allocated on the device: all but Mapped.
func (d DeviceMemory) Need() uint64 { return d.Weights + d.Context + d.Compute }

// EstimateMemory computes what LoadModel with the same parameters and a context of p.Context are going to need, and plans
// which layers and how long a context fit. It reads the file's head, allocates a few MiB for that, and loads nothing. Call
// Check to learn whether it fits. Any goroutine may call it.
//
// # Errors
//
//   - as [LoadModel], without [*ErrInsufficientMemory]
//   - [ErrInvalidParam] when llama.cpp makes no such context of the model
//
// C: common_fit_params, llama_get_memory_breakdown
func EstimateMemory(ctx context.Context, path string, p ModelParams) (MemoryNeed, error) {
	pl, err := newPlan(ctx, path, p)
	if err != nil {
		return MemoryNeed{}, err
	}
	defer pl.close()
	err = pl.compute()
	return pl.need, err
}

// Check says whether everything fits: nil, or an [*ErrInsufficientMemory] for the first device that is too small. A device
// whose free memory is unknown passes. Mapped weights take no free memory, but with LoadAuto a model larger than all of main
// memory does not pass: each token would be read from the disk. LoadMMap allows that.
func (n MemoryNeed) Check() error {
	for _, d := range n.Devices {
		if err := d.check("model", d.Need(), n.advice(d)); err != nil {
			return err
		}
		if whole := d.Need() + d.Mapped; n.LoadMode == LoadAuto && d.MemoryTotal > 0 && whole > d.MemoryTotal {
			return &ErrInsufficientMemory{
				What: "model", Device: d.Name, Need: whole, Free: d.MemoryTotal,
				Text: "take a smaller model or quantisation, or LoadMMap, which runs it from the disk, slowly",
			}
		}
	}
	return nil
}

// advice says what would help most.
func (n MemoryNeed) advice(d DeviceMemory) string {
	switch {
	case d.Context+d.Compute > d.Weights:
		return "lower NCtx"
	case d.Type != "cpu":
		return "lower NGPULayers, or take a smaller model or quantisation"
	default:
		return "take a smaller model or quantisation"
	}
}

// check compares a need with what is free.
func (d DeviceMemory) check(what string, need uint64, advice string) error {
	if d.MemoryTotal == 0 || need <= d.MemoryFree {
		return nil
	}
	return &ErrInsufficientMemory{What: what, Device: d.Name, Need: need, Free: d.MemoryFree, Text: advice}
}

// planned are the devices that layers and context are planned for: the GPUs, or main memory where there are none.
func (n MemoryNeed) planned() []DeviceMemory { return n.Devices[:max(1, len(n.Devices)-1)] }

// roomy says that a margin stays free on every device that is planned for, mapped weights counted.
func (n MemoryNeed) roomy() bool {
	return !slices.ContainsFunc(n.planned(), func(d DeviceMemory) bool {
		return d.MemoryTotal > 0 && d.Need()+d.Mapped+d.margin() > d.MemoryFree
	})
}

// margin is what automatic planning leaves free: llama.cpp's 1 GiB, less on a small device.
func (d DeviceMemory) margin() uint64 { return min(1<<30, d.MemoryTotal/8) }

// fitMargin is what common_fit_params has to leave free of a device of which it takes free bytes for free: more than the
// margin where that is too much. It may be too little, where another process has taken memory since.
func (d DeviceMemory) fitMargin(free uint64) uint64 {
	return d.margin() + max(free, d.MemoryFree) - d.MemoryFree
}

func (n MemoryNeed) clone() MemoryNeed {
	n.Devices = slices.Clone(n.Devices)
	return n
}
