package gpu

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Reason is why a GPU is refused.
type Reason string

// The reasons.
const (
	ReasonNoDevice          Reason = "no_device"          // the driver lists none, or too few can be used
	ReasonNoCUDALibrary     Reason = "no_cuda_library"    // libcuda cannot be loaded
	ReasonDriverTooOld      Reason = "driver_too_old"     // for the CUDA of the program
	ReasonNoAnswer          Reason = "no_answer"          // lost, or in need of a reset
	ReasonHidden            Reason = "hidden"             // by CUDA_VISIBLE_DEVICES
	ReasonDeviceNode        Reason = "device_node"        // /dev/nvidia… is missing
	ReasonPermission        Reason = "permission"         // the caller may not open it
	ReasonComputeCapability Reason = "compute_capability" // the program has no code for it
	ReasonComputeMode       Reason = "compute_mode"       // prohibited, or taken by another process
	ReasonMIG               Reason = "mig"                // MIG is enabled, and there is no instance
	ReasonMemory            Reason = "memory"             // too little is free
)

// Refusal is why one GPU, or all of them, cannot be used.
type Refusal struct {
	Device int    `json:"device"` // Device.Index, -1 for all
	Name   string `json:"name"`   // Device.Name
	Reason Reason `json:"reason"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
	Cause  error  `json:"-"` // an [*ErrDriverTooOld], [*ErrPermission] or [*ErrNVML], where there is one
}

func (r *Refusal) Error() string { return sentence(r.explain()) }

func (r *Refusal) explain() (problem, remedy string) {
	if r.Device < 0 {
		return r.Text, r.Remedy
	}
	who := "GPU " + strconv.Itoa(r.Device)
	if r.Name != "" {
		who += " (" + r.Name + ")"
	}
	return who + ": " + r.Text, r.Remedy
}

// Unwrap is the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// holders names the processes that hold memory, the largest first.
func holders(devices []Device) string {
	var all []Process
	for _, d := range devices {
		all = append(all, d.Processes...)
	}
	if len(all) == 0 {
		return ""
	}
	slices.SortStableFunc(all, func(a, b Process) int { return cmp.Compare(b.Memory, a.Memory) })
	const most = 3
	var texts []string
	for _, p := range all[:min(len(all), most)] {
		text := "process " + strconv.Itoa(p.PID)
		if p.Name != "" {
			text = path.Base(p.Name) + " (" + text + ")"
		}
		if p.Memory > 0 {
			text += " with " + GiB(p.Memory)
		}
		texts = append(texts, text)
	}
	if len(all) > most {
		texts = append(texts, fmt.Sprintf("%d more", len(all)-most))
	}
	return "; held by " + strings.Join(texts, ", ")
}

// GiB writes a number of bytes the way the texts of this package do: "1.5 GiB", "300 MiB".
func GiB(bytes uint64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
