package sandbox

import "fmt"

// ErrDevice is a node of [Config.Devices] that this host does not have or that the
// sandbox may not use. Nothing was run.
type ErrDevice struct {
	Path   string
	Reason string
	Remedy string
	Err    error // the system call's error
}

func (e *ErrDevice) Error() string {
	return fmt.Sprintf("sandbox: device %s: %s; %s", e.Path, e.Reason, e.Remedy)
}

func (e *ErrDevice) Unwrap() error { return e.Err }

// GPUDevices lists what CUDA needs of this host, for [Config.Devices]: the nodes of
// every NVIDIA GPU (/dev/nvidia0…), the driver's own (nvidiactl) and that of unified
// memory (nvidia-uvm). Leave GPUs out of it to withhold them. It is empty where no
// driver is loaded.
func GPUDevices() []string { return gpuDevices() }
