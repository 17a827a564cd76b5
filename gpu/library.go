package gpu

import (
	"context"
	"iter"
	"sync"
	"time"
)

// source is the driver that a Library asks.
type source interface {
	driver() Driver
	devices() ([]Device, error)
	cuda() error // nil where libcuda, which CUDA programs need besides NVML, can be loaded
	close() error
}

// Library is the open NVML library. All methods may be called from any goroutine.
type Library struct {
	mu   sync.RWMutex // Close waits for calls in flight
	src  source       // nil once closed
	host Host
}

// Open loads the library of the NVIDIA driver and initializes it. Several may be open at a time; each must be closed.
//
// # Errors
//
//   - [*ErrNoDriver] when there is no library, or no driver behind it
//   - [*ErrDriverTooOld] when the library lacks a function that all others are of no use without
//   - [*ErrPermission] when the caller may not use it
//   - [*ErrNVML] when it fails in another way
//   - [ErrUnsupported] without cgo, or not on Linux
//
// C: nvmlInit_v2
func Open() (*Library, error) { return Host{}.Open() }

// Open is [Open], with causes and remedies told for this machine.
func (h Host) Open() (*Library, error) {
	h = h.complete()
	src, err := open(h)
	if err != nil {
		return nil, err
	}
	return &Library{src: src, host: h}, nil
}

// Close ends the use of the library. Idempotent and nil-safe; calls in flight are waited for, later ones get
// [ErrClosed].
//
// C: nvmlShutdown
func (l *Library) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.src == nil {
		return nil
	}
	err := l.src.close()
	l.src = nil
	return err
}

// Driver is the driver behind the library.
//
// C: nvmlSystemGetDriverVersion, nvmlSystemGetCudaDriverVersion
func (l *Library) Driver() (Driver, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.src == nil {
		return Driver{}, ErrClosed
	}
	return l.src.driver(), nil
}

// Devices are the GPUs of the driver, in its order. CUDA_VISIBLE_DEVICES does not count here. A GPU that the driver
// lists but does not answer for has Device.Err set. None at all is no error.
//
// # Errors
//
//   - [*ErrNVML] or [*ErrPermission] when the driver does not list its GPUs
//   - [ErrClosed]
//
// C: nvmlDeviceGetCount_v2, nvmlDeviceGetHandleByIndex_v2
func (l *Library) Devices() ([]Device, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.src == nil {
		return nil, ErrClosed
	}
	return l.src.devices()
}

// Watch asks for the devices now and then every interval (0 = one second) for as long as the range statement goes on.
// The error is the last: ctx.Err() when ctx is done, else one of [Library.Devices]. An answer that is late makes the
// next one late too; none is asked for twice.
func (l *Library) Watch(ctx context.Context, interval time.Duration) iter.Seq2[[]Device, error] {
	if interval <= 0 {
		interval = time.Second
	}
	return func(yield func([]Device, error) bool) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			devices, err := l.Devices()
			if !yield(devices, err) || err != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
}
