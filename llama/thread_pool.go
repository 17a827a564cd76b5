package llama

import "github.com/lm-sandbox/lm-sandbox/llama/internal/native"

// Priority is how the system's scheduler treats threads (ggml_sched_priority).
type Priority int

// Priorities; those above the zero value need the right to real-time scheduling (on Linux CAP_SYS_NICE).
const (
	PriorityNormal   Priority = iota
	PriorityMedium                 // SCHED_FIFO 40
	PriorityHigh                   // SCHED_FIFO 80
	PriorityRealtime               // SCHED_FIFO 90
	PriorityLow      Priority = -1 // SCHED_BATCH
)

// ThreadPool says where and how the threads that compute on the CPU run; their number is ContextParams.NThreads. The zero value
// leaves that to the system. How long they spin when they wait is not among it: llama.cpp's polling level has no effect
// with OpenMP, whose own setting, GOMP_SPINCOUNT in the environment, is read when the process starts.
//
// C: ggml_threadpool_params
type ThreadPool struct {
	// CPUs are the processors that they use, by the system's numbers, 0 to 511; nil = those of the process.
	CPUs []int
	// StrictCPU binds each of them to one of CPUs, in ascending order and round again.
	StrictCPU bool
	Priority  Priority
}

func (p ThreadPool) native(np *native.ContextParams) error {
	for _, n := range p.CPUs {
		if n < 0 || n >= native.MostCPUs {
			return errorf(ErrInvalidParam, "Pool.CPUs: processor %d: want 0 to %d", n, native.MostCPUs-1)
		}
		np.CPUMask[n] = true
	}
	switch {
	case p.StrictCPU && len(p.CPUs) == 0:
		return errorf(ErrInvalidParam, "Pool.StrictCPU: say which in Pool.CPUs")
	case p.Priority < PriorityLow || p.Priority > PriorityRealtime:
		return errorf(ErrInvalidParam, "Pool.Priority = %d is none of the constants", p.Priority)
	}
	np.StrictCPU, np.Priority = p.StrictCPU, int32(p.Priority)
	return nil
}
