package gpu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrUnsupported is all that this package says in a program without cgo, or not on Linux.
	ErrUnsupported = errors.New("gpu: the driver is asked through cgo, on Linux only: build with CGO_ENABLED=1")
	// ErrClosed is for a Library after Close.
	ErrClosed = errors.New("gpu: use after Close")
)

// Explain tells what is wrong and what to do about it, for programs that show them apart; the text of an error of this
// package has both. The remedy is empty where none is known, and both are for nil.
func Explain(err error) (problem, remedy string) {
	var e interface {
		error
		explain() (problem, remedy string)
	}
	if errors.As(err, &e) {
		return e.explain()
	}
	if err == nil {
		return "", ""
	}
	return strings.TrimPrefix(err.Error(), "gpu: "), ""
}

// sentence is the text of an error: the problem, then the remedy.
func sentence(problem, remedy string) string {
	if remedy == "" {
		return "gpu: " + problem
	}
	return "gpu: " + problem + ": " + remedy
}

// ErrNoDriver says that no NVIDIA driver answers.
type ErrNoDriver struct {
	Library string // the library that is missing, or that found no driver behind it
	Problem string // what was found out about it, in a few words
	Remedy  string // what to do
	HasGPU  bool   // an NVIDIA GPU, or its driver's kernel module, is here all the same
	Cause   error  // of the loader, or an *ErrNVML
}

func (e *ErrNoDriver) Error() string             { return sentence(e.explain()) }
func (e *ErrNoDriver) Unwrap() error             { return e.Cause }
func (e *ErrNoDriver) explain() (string, string) { return e.Problem, e.Remedy }

// ErrPermission says that the caller may not use the driver or a GPU.
type ErrPermission struct {
	Path   string // the device node, empty where the driver did not say which
	Remedy string
	Cause  error
}

func (e *ErrPermission) Error() string { return sentence(e.explain()) }
func (e *ErrPermission) Unwrap() error { return e.Cause }

func (e *ErrPermission) explain() (string, string) {
	if e.Path == "" {
		return "the NVIDIA driver refuses this user", e.Remedy
	}
	return "no permission to open " + e.Path, e.Remedy
}

// ErrDriverTooOld says that the driver lacks what is asked of it.
type ErrDriverTooOld struct {
	Driver string  // its version, empty where unknown
	Symbol string  // the function of NVML that it lacks, empty where that is not the reason
	CUDA   Version // the newest CUDA that it runs
	Need   Version // the CUDA that the program was built with
	Remedy string
}

func (e *ErrDriverTooOld) Error() string { return sentence(e.explain()) }

func (e *ErrDriverTooOld) explain() (string, string) {
	driver := strings.TrimSpace("the NVIDIA driver " + e.Driver)
	if e.Symbol != "" {
		return fmt.Sprintf("%s is too old, its library lacks %s", driver, e.Symbol), e.Remedy
	}
	runs := "no CUDA that it tells"
	if e.CUDA != (Version{}) {
		runs = "CUDA " + e.CUDA.String()
	}
	return fmt.Sprintf("%s is too old, it runs %s and CUDA %s is needed", driver, runs, e.Need), e.Remedy
}

// ErrNVML is a function of NVML that failed.
type ErrNVML struct {
	Call   string // nvmlDeviceGetMemoryInfo
	Code   int    // nvmlReturn_t
	Text   string // nvmlErrorString's
	Remedy string // empty where none is known
}

func (e *ErrNVML) Error() string { return sentence(e.explain()) }

func (e *ErrNVML) explain() (string, string) {
	return fmt.Sprintf("%s: %s (NVML code %d)", e.Call, e.Text, e.Code), e.Remedy
}

// ErrRefused says that the machine has GPUs, or at least a driver, and that none satisfies the requirements. The
// refusals can be had by errors.As too.
type ErrRefused struct{ Refusals []*Refusal }

func (e *ErrRefused) Error() string {
	var texts []string
	for _, r := range e.grouped() {
		texts = append(texts, strings.TrimPrefix(r.Error(), "gpu: "))
	}
	return "gpu: " + strings.Join(texts, "; ")
}

// explain gives all problems, and the remedy of the first.
func (e *ErrRefused) explain() (problem, remedy string) {
	var texts []string
	for _, r := range e.grouped() {
		text, _ := r.explain()
		texts = append(texts, text)
	}
	return strings.Join(texts, "; "), e.Refusals[0].Remedy
}

// grouped tells once what is true of several GPUs.
func (e *ErrRefused) grouped() []*Refusal {
	var all []*Refusal
	for _, r := range e.Refusals {
		var same []string
		for _, other := range e.Refusals {
			if other.Text == r.Text && other.Remedy == r.Remedy {
				same = append(same, strconv.Itoa(other.Device))
			}
		}
		switch {
		case len(same) == 1:
			all = append(all, r)
		case same[0] == strconv.Itoa(r.Device):
			all = append(all, &Refusal{Device: -1, Text: "GPUs " + strings.Join(same, ", ") + ": " + r.Text, Remedy: r.Remedy})
		}
	}
	return all
}

// Unwrap gives the refusals.
func (e *ErrRefused) Unwrap() []error {
	errs := make([]error, len(e.Refusals))
	for i, r := range e.Refusals {
		errs[i] = r
	}
	return errs
}
