package gpu

// Driver is the NVIDIA driver of the machine.
type Driver struct {
	Version string  `json:"version"` // such as 550.54.15; empty where unknown
	CUDA    Version `json:"cuda"`    // newest CUDA that it runs: a program built with the same or a lower major version starts
	Library string  `json:"library"` // the NVML library that answered
}

// Device is a GPU as the driver saw it when it was asked. What a driver or a GPU does not tell is zero, unless said.
type Device struct {
	Index             int         `json:"index"` // NVML's, in the order of the PCI bus; CUDA's own order may be another
	UUID              string      `json:"uuid"`  // GPU-…, which CUDA_VISIBLE_DEVICES takes
	Name              string      `json:"name"`
	PCIBusID          string      `json:"pci_bus_id"`
	Minor             int         `json:"minor"` // N of /dev/nvidiaN, -1 where unknown
	ComputeCapability Version     `json:"compute_capability"`
	ComputeMode       ComputeMode `json:"compute_mode"`
	Memory            Memory      `json:"memory"`
	Utilization       int         `json:"utilization"` // percent of the last sample period in which a kernel ran, -1 where unknown
	MIG               MIG         `json:"mig"`
	Processes         []Process   `json:"processes"` // that hold memory, as far as the caller may see them

	// Err is why the driver did not answer for this device: an [*ErrNVML] or [*ErrPermission]. The rest is then incomplete.
	Err error `json:"-"`
}

// Memory is in bytes; all are zero where the driver does not tell, as on GPUs that share the memory of the CPU.
type Memory struct {
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
	Used  uint64 `json:"used"` // by processes and by the driver itself
}

// MIG is how a GPU is divided. A program can use one instance at a time, and only instances while MIG is enabled.
type MIG struct {
	Enabled   bool          `json:"enabled"`
	Pending   bool          `json:"pending"` // what Enabled will be after the next reset
	Instances []MIGInstance `json:"instances,omitempty"`
}

// MIGInstance is a part of a GPU that CUDA takes for a GPU.
type MIGInstance struct {
	UUID            string `json:"uuid"` // MIG-…, which CUDA_VISIBLE_DEVICES takes
	Name            string `json:"name"`
	GPUInstance     int    `json:"gpu_instance"`     // -1 where unknown
	ComputeInstance int    `json:"compute_instance"` // -1 where unknown
	Memory          Memory `json:"memory"`
}

// Process holds memory of a GPU.
type Process struct {
	PID    int    `json:"pid"`
	Name   string `json:"name"`   // of the program, empty where the caller may not know
	Memory uint64 `json:"memory"` // bytes, 0 where unknown
}

// ComputeMode says how many processes may use a GPU.
type ComputeMode string

// The compute modes; an unknown one is empty.
const (
	ComputeDefault          ComputeMode = "default"           // any number of processes
	ComputeExclusiveProcess ComputeMode = "exclusive_process" // one
	ComputeProhibited       ComputeMode = "prohibited"        // none
)
