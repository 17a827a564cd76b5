package gpu

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnsupported is all that this package says in a program without cgo, or not on Linux.
	ErrUnsupported = errors.New("gpu: the driver is asked through cgo, on Linux only: build with CGO_ENABLED=1")
	// ErrClosed is for a Library after Close.
	ErrClosed = errors.New("gpu: use after Close")
)

// ErrNoDriver says that no NVIDIA driver answers.
type ErrNoDriver struct {
	Library string // the library that is missing, or that found no driver behind it
	Problem string // what was found out about it, in a few words
	Remedy  string // what to do
	HasGPU  bool   // an NVIDIA GPU, or its driver's kernel module, is here all the same
	Cause   error  // of the loader, or an *ErrNVML
}

func (e *ErrNoDriver) Error() string { return "gpu: " + e.Problem + ": " + e.Remedy }
func (e *ErrNoDriver) Unwrap() error { return e.Cause }

// ErrPermission says that the caller may not use the driver or a GPU.
type ErrPermission struct {
	Path   string // the device node, empty where the driver did not say which
	Remedy string
	Cause  error
}

func (e *ErrPermission) Error() string {
	what := "the NVIDIA driver refuses this user"
	if e.Path != "" {
		what = "no permission to open " + e.Path
	}
	return "gpu: " + what + ": " + e.Remedy
}
func (e *ErrPermission) Unwrap() error { return e.Cause }

// ErrDriverTooOld says that the driver lacks what is asked of it.
type ErrDriverTooOld struct {
	Driver string  // its version, empty where unknown
	Symbol string  // the function of NVML that it lacks, empty where that is not the reason
	CUDA   Version // the newest CUDA that it runs
	Need   Version // the CUDA that the program was built with
	Remedy string
}

func (e *ErrDriverTooOld) Error() string {
	have := strings.TrimSpace("the NVIDIA driver " + e.Driver)
	if e.Symbol != "" {
		return fmt.Sprintf("gpu: %s is too old, its library lacks %s: %s", have, e.Symbol, e.Remedy)
	}
	return fmt.Sprintf("gpu: %s is too old, it runs CUDA %s and CUDA %s is needed: %s", have, e.CUDA, e.Need, e.Remedy)
}

// ErrNVML is a function of NVML that failed.
type ErrNVML struct {
	Call   string // nvmlDeviceGetMemoryInfo
	Code   int    // nvmlReturn_t
	Text   string // nvmlErrorString's
	Remedy string // empty where none is known
}

func (e *ErrNVML) Error() string {
	s := fmt.Sprintf("gpu: %s: %s (NVML code %d)", e.Call, e.Text, e.Code)
	if e.Remedy != "" {
		s += ": " + e.Remedy
	}
	return s
}

// ErrRefused says that the machine has GPUs, or at least a driver, and that none satisfies the requirements. The
// refusals can be had by errors.As too.
type ErrRefused struct{ Refusals []*Refusal }

func (e *ErrRefused) Error() string {
	texts := make([]string, len(e.Refusals))
	for i, r := range e.Refusals {
		texts[i] = strings.TrimPrefix(r.Error(), "gpu: ")
	}
	return "gpu: " + strings.Join(texts, "; ")
}

// Unwrap gives the refusals.
func (e *ErrRefused) Unwrap() []error {
	errs := make([]error, len(e.Refusals))
	for i, r := range e.Refusals {
		errs[i] = r
	}
	return errs
}
