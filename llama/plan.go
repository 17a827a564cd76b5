package llama

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// plan is where a model's tensors go and what that takes. It lives as long as the model.
type plan struct {
	path   string
	head   ggufHead
	params ModelParams
	native native.Plan
	layers int32                // on GPUs, negative = all
	need   MemoryNeed           // without Devices until compute succeeded
	np     native.ContextParams // the context that need counts

	repacked uint64 // bytes of weights in main memory that cannot stay in the file

	mu sync.Mutex // held while native measures
}

// fitting is held for writing during common_fit_params, which swaps the process's logger, and for reading by all that makes
// llama.cpp log much.
var fitting sync.RWMutex

const (
	leastAutoCtx  = 4096 // llama.cpp's fit_params_min_ctx
	positionBytes = 64   // the books that the cache keeps about a position, in a dry run too; rounded up
	mostDryCtx    = 1 << 18
)

// newPlan checks all that can be checked without llama.cpp's loader.
func newPlan(ctx context.Context, path string, p ModelParams) (*plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("llama: load %s: %w", path, err)
	}
	if err := native.Init(); err != nil {
		return nil, fromNative(err, ErrUnsupported, "llama.cpp")
	}
	if p.LoadMode < LoadAuto || p.LoadMode > LoadDirectIO {
		return nil, errorf(ErrInvalidParam, "LoadMode %d is none of the constants", p.LoadMode)
	}
	if p.NThreads < -1 {
		return nil, errorf(ErrInvalidParam, "NThreads = %d: want a number of threads, 0 or -1", p.NThreads)
	}
	layers := int32(-1)
	switch {
	case p.NGPULayers == NoLayers:
		layers = 0
	case p.NGPULayers > 0:
		layers = int32(min(p.NGPULayers, 1<<20))
	case p.NGPULayers < NoLayers:
		return nil, errorf(ErrInvalidParam, "NGPULayers = %d: want a number of layers, Auto, AllLayers or NoLayers", p.NGPULayers)
	}
	head, err := checkModelFile(path)
	if err != nil {
		return nil, err
	}
	where, err := p.placement(layers)
	if err != nil {
		return nil, err
	}
	np, err := native.NewPlan(path, where, head.arch, head.nVocab)
	if err != nil {
		return nil, fromNative(err, ErrModelFormat, "plan")
	}
	return &plan{path: path, head: head, params: p, native: np, layers: layers}, nil
}

func (pl *plan) close() { pl.native.Free() }

// settle computes the plan and refuses what does not fit. A model whose need llama.cpp cannot tell is left to its loader.
func (pl *plan) settle() error {
	err := pl.compute()
	switch {
	case errors.As(err, new(unmeasured)):
		return nil
	case err != nil:
		return err
	}
	if pl.params.Preflight != nil {
		if err := pl.params.Preflight(pl.need.clone()); err != nil {
			return err
		}
	}
	return pl.need.Check()
}

// unmeasured is llama.cpp's failure to tell what is needed.
type unmeasured struct{ error }

func (e unmeasured) Unwrap() error { return e.error }

func unmeasuredError(err, kind error, what string) error {
	if err == nil {
		return nil
	}
	return unmeasured{fromNative(err, kind, what)}
}

// compute measures what is needed and, where layers or context are automatic, lowers them until it fits.
func (pl *plan) compute() error {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	defer pl.native.CloseModel()
	info, err := pl.open()
	if err != nil {
		return err
	}
	cp := pl.params.Context
	np, err := cp.native(int(info.NCtxTrain), info.HasEncoder)
	if err != nil {
		return err
	}
	need, err := pl.measure(info, np)
	if err != nil {
		return err
	}
	autoLayers := pl.params.NGPULayers == Auto && len(need.Devices) > 1
	if (autoLayers || cp.NCtx == 0) && !need.roomy() {
		cp.NCtx, err = pl.fit(need, info, np)
		if err != nil {
			return err
		}
		if info, err = pl.open(); err != nil {
			return err
		}
		if np, err = cp.native(cp.NCtx, info.HasEncoder); err != nil {
			return err
		}
		if need, err = pl.measure(info, np); err != nil {
			return err
		}
	}
	pl.need, pl.np = need, np
	return nil
}

func (pl *plan) open() (native.PlanInfo, error) {
	fitting.RLock()
	defer fitting.RUnlock()
	info, err := pl.native.OpenModel()
	return info, unmeasuredError(err, ErrModelFormat, "load "+pl.path)
}

// fit lets llama.cpp lower the number of layers, inside native, and the context, which it returns.
func (pl *plan) fit(need MemoryNeed, info native.PlanInfo, np native.ContextParams) (int, error) {
	train := uint32(info.NCtxTrain)
	least := min(leastAutoCtx, train)
	host := need.Devices[len(need.Devices)-1]
	auto := pl.params.Context.NCtx == 0
	if np.KVUnified {
		np.NSeqMax = 1 // common_fit_params would take n_ctx_train for each sequence
	}
	switch {
	case auto && host.MemoryTotal > 0 && uint64(train)*uint64(np.NSeqMax)*positionBytes > host.MemoryFree/4:
		np.NCtx = least // even planning for n_ctx_train would take too much
	case auto:
		np.NCtx = 0
	}
	// common_fit_params compares with what ggml takes for free: all of main memory. Where that is all there is, it counts no
	// weights that are repacked.
	planned := need.planned()
	margins := make([]uint64, len(planned))
	for i, d := range planned {
		margins[i] = d.fitMargin(ggmlFree(d.Name))
		if d.Type == "cpu" {
			margins[i] += pl.repacked
		}
	}
	fitting.Lock()
	defer fitting.Unlock()
	layers, err := pl.native.Fit(&np, margins, least)
	if err != nil {
		return 0, unmeasuredError(err, ErrModelFormat, "plan "+pl.path)
	}
	pl.layers = layers
	if auto {
		np.NCtx = min(np.NCtx, train)
	}
	return int(np.NCtx), nil
}

// measure gives the need of the opened model and a context. That of a very long context follows from two shorter ones, since
// even a dry run keeps books about each position.
func (pl *plan) measure(info native.PlanInfo, np native.ContextParams) (MemoryNeed, error) {
	run := func(nCtx uint32) ([]native.DeviceMemory, error) {
		fitting.RLock()
		defer fitting.RUnlock()
		p := np
		p.NCtx = nCtx
		devices, err := pl.native.Measure(p)
		return devices, unmeasuredError(err, ErrInvalidParam, "context")
	}
	devices, err := run(min(np.NCtx, mostDryCtx))
	if err != nil {
		return MemoryNeed{}, err
	}
	if np.NCtx > mostDryCtx {
		half, err := run(mostDryCtx / 2)
		if err != nil {
			return MemoryNeed{}, err
		}
		steps := float64(np.NCtx-mostDryCtx) / (mostDryCtx / 2)
		for i := range devices {
			d := &devices[i]
			d.Context += uint64(steps * float64(d.Context-half[i].Context))
			d.Compute += uint64(steps * float64(d.Compute-half[i].Compute))
		}
	}
	pl.repacked = devices[len(devices)-1].Weights
	need := MemoryNeed{Path: pl.path, LoadMode: pl.params.LoadMode, NLayer: int(info.NLayer), NCtx: int(np.NCtx)}
	mode := pl.params.LoadMode
	mapped := mode == LoadMMap || mode == LoadAuto && info.CanMap
	for _, d := range devices {
		m := DeviceMemory{Device: Device(d.Device), Weights: d.Weights, Context: d.Context, Compute: d.Compute}
		m.MemoryFree, m.MemoryTotal = readMemory(d.Device)
		if mapped {
			m.Mapped = d.Mappable
		} else {
			m.Weights += d.Mappable
		}
		need.Devices = append(need.Devices, m)
	}
	if len(devices) > 1 {
		need.NGPULayers = need.NLayer + 1
		if pl.layers >= 0 {
			need.NGPULayers = min(need.NGPULayers, int(pl.layers))
		}
	}
	return need, nil
}

// ggmlFree is what ggml takes for a device's free memory.
func ggmlFree(name string) uint64 {
	for _, d := range native.Devices() {
		if d.Name == name {
			return d.MemoryFree
		}
	}
	return 0
}

// nCtx is the number of positions of a context that leaves it open; train is the model's.
func (pl *plan) nCtx(train int) int {
	if pl.params.Context.NCtx == 0 && len(pl.need.Devices) > 0 {
		return pl.need.NCtx
	}
	return train
}

// checkContext refuses a context of the loaded model for which there is not enough memory now.
func (pl *plan) checkContext(np native.ContextParams) error {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	need := pl.need.clone()
	if np == pl.np && len(need.Devices) > 0 {
		refresh(need.Devices)
	} else {
		defer pl.native.CloseModel()
		info, err := pl.open()
		if err == nil {
			need, err = pl.measure(info, np)
		}
		if err != nil {
			return nil // the file may be gone; what is wrong with the parameters, llama.cpp says
		}
	}
	for _, d := range need.Devices {
		if err := d.check("context", d.Context+d.Compute, "lower NCtx"); err != nil {
			return err
		}
	}
	return nil
}

// refresh reads again what is free.
func refresh(devices []DeviceMemory) {
	now := native.Devices()
	for i := range devices {
		for _, d := range now {
			if d.Name == devices[i].Name {
				devices[i].MemoryFree, devices[i].MemoryTotal = readMemory(d)
			}
		}
	}
}
