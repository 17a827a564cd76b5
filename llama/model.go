package llama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Model is a loaded model: weights and vocabulary, no state of an inference (llama_model). It is safe for use by many
// goroutines, and many contexts may share it. Contexts must be closed before it.
type Model struct {
	path  string
	info  native.ModelInfo
	meta  map[string]string
	vocab Vocab
	plan  *plan
	turns turns

	fingerprint func() (string, error) // of the file

	vocabOnly bool
	adapting  sync.RWMutex // held for writing while an adapter comes or goes, for reading while contexts look at all of them

	mu       sync.RWMutex // held for reading while the native model is used
	native   native.Model
	closed   bool
	contexts int // open contexts, guarded by mu held for writing
}

// LoadModel loads a GGUF file. Of a split model path names the first part. What it and p.Context need is computed before
// anything is loaded; [EstimateMemory] gives the figures.
//
// # Errors
//
//   - ctx's error when ctx ends during the load
//   - [fs.ErrNotExist] and other errors of opening the file
//   - [ErrModelFormat] when the file is no usable model
//   - [*ErrInsufficientMemory] when the model and p.Context do not fit into memory
//   - [ErrInvalidParam] for parameters that cannot be, and the error of p.Preflight
//   - [ErrUnsupported] in a build without cgo
//
// C: llama_model_load_from_file
func LoadModel(ctx context.Context, path string, p ModelParams) (*Model, error) {
	path, err := p.tuned(ctx, path)
	if err != nil {
		return nil, err
	}
	pl, err := newPlan(ctx, path, p)
	if err != nil {
		return nil, err
	}
	if !p.VocabOnly {
		if err := pl.settle(); err != nil {
			pl.close()
			return nil, err
		}
	}
	m, err := pl.load(ctx, p)
	if err != nil {
		pl.close()
	}
	return m, err
}

// load loads the model that was planned.
func (pl *plan) load(ctx context.Context, p ModelParams) (*Model, error) {
	path := pl.path
	var panicked any
	progress := func(fraction float32) bool {
		if ctx.Err() != nil {
			return false
		}
		if p.Progress != nil {
			panicked = callRecovered(func() { p.Progress(fraction) })
		}
		return panicked == nil
	}
	np := native.ModelParams{LoadMode: int32(p.LoadMode) - 1, CheckTensors: p.CheckTensors, VocabOnly: p.VocabOnly}
	fitting.RLock()
	nm, err := native.LoadModel(path, np, pl.native, progress)
	fitting.RUnlock()
	var ne *native.Error
	switch {
	case panicked != nil:
		err = fmt.Errorf("llama: load %s: the Progress callback panicked: %v", path, panicked)
	case errors.As(err, &ne) && ne.Code == native.CodeCancelled:
		err = fmt.Errorf("llama: load %s: %w", path, ctx.Err())
	case ne != nil && ne.Code == native.CodeMemory:
		err = fromNative(err, ErrModelFormat, "model")
	case err != nil:
		err = fromNative(err, ErrModelFormat, "load "+path)
	}
	if err != nil {
		return nil, err
	}
	m := &Model{path: path, native: nm, info: nm.Info(), plan: pl, vocabOnly: p.VocabOnly}
	m.fingerprint = sync.OnceValues(func() (string, error) { return fingerprint(path) })
	m.vocab.m = m
	m.turns.total = p.NThreads
	if p.NThreads == 0 {
		m.turns.total = native.NThreadsDefault()
	}
	m.turns.free = m.turns.total
	if err := m.vocab.checkSpecials(); err != nil {
		nm.Free()
		return nil, errorf(ErrModelFormat, "load %s: %v", path, err)
	}
	meta, err := nm.Meta()
	if err != nil {
		nm.Free()
		return nil, fromNative(err, ErrModelFormat, "model")
	}
	m.meta = map[string]string{}
	for f := strings.Split(meta, "\x00"); len(f) >= 2; f = f[2:] {
		m.meta[f[0]] = f[1]
	}
	return m, nil
}

// callRecovered runs f and returns what it panicked with.
func callRecovered(f func()) (panicked any) {
	defer func() { panicked = recover() }()
	f()
	return nil
}

// acquire keeps the native model alive until release.
func (m *Model) acquire() error {
	if m == nil {
		return ErrClosed
	}
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return ErrClosed
	}
	return nil
}

func (m *Model) release() { m.mu.RUnlock() }

func (m *Model) contextClosed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.contexts--
}

// Close frees the model. It waits for calls in flight and is idempotent; a nil Model is closed.
//
// # Errors
//
//   - [ErrInUse] while a Context of the model is open; the model stays usable and Close may be called again.
//
// C: llama_model_free
func (m *Model) Close() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	if m.contexts > 0 {
		return errorf(ErrInUse, "close the model's %d contexts first", m.contexts)
	}
	m.closed = true
	m.plan.close()
	m.native.Free() // and gives back what free memory there is
	return nil
}

// Vocab gives the model's vocabulary (llama_model_get_vocab), which lives as long as the model.
func (m *Model) Vocab() *Vocab { return &m.vocab }

// Path is what the model was loaded from.
func (m *Model) Path() string { return m.path }

// MemoryNeed gives what was planned when the model was loaded, with the memory that was free then. It has no Devices where
// llama.cpp could not make a context of the model.
func (m *Model) MemoryNeed() MemoryNeed { return m.plan.need.clone() }

// Desc describes architecture, size and quantisation, such as "llama 256M Q4_1" (llama_model_desc).
func (m *Model) Desc() string { return m.info.Desc }

// Size is the size of all tensors in bytes (llama_model_size).
func (m *Model) Size() uint64 { return m.info.Size }

// NParams is the number of parameters (llama_model_n_params).
func (m *Model) NParams() uint64 { return m.info.NParams }

// NCtxTrain is the number of positions the model was trained on (llama_model_n_ctx_train).
func (m *Model) NCtxTrain() int { return int(m.info.NCtxTrain) }

// NEmbd is the width of the embeddings (llama_model_n_embd).
func (m *Model) NEmbd() int { return int(m.info.NEmbd) }

// NLayer is the number of layers (llama_model_n_layer).
func (m *Model) NLayer() int { return int(m.info.NLayer) }

// NHead is the number of attention heads (llama_model_n_head).
func (m *Model) NHead() int { return int(m.info.NHead) }

// NSWA is the width of the sliding attention window in positions, 0 without one (llama_model_n_swa).
func (m *Model) NSWA() int { return int(m.info.NSWA) }

// HasEncoder says whether the model contains an encoder (llama_model_has_encoder).
func (m *Model) HasEncoder() bool { return m.info.HasEncoder }

// HasDecoder says whether the model contains a decoder (llama_model_has_decoder).
func (m *Model) HasDecoder() bool { return m.info.HasDecoder }

// IsRecurrent says whether the model keeps a recurrent state instead of a KV cache (llama_model_is_recurrent).
func (m *Model) IsRecurrent() bool { return m.info.IsRecurrent }

// IsHybrid says whether the model has both (llama_model_is_hybrid).
func (m *Model) IsHybrid() bool { return m.info.IsHybrid }

// Meta gives one scalar value of the file's metadata as text (llama_model_meta_val_str).
func (m *Model) Meta(key string) (string, bool) {
	v, ok := m.meta[key]
	return v, ok
}

// MetaAll gives a copy of all scalar metadata.
func (m *Model) MetaAll() map[string]string { return maps.Clone(m.meta) }

// needsWholeUBatch says that llama.cpp wants all tokens of a decode in one ubatch: without causal attention, and in encoders.
func (m *Model) needsWholeUBatch() bool {
	arch := m.meta["general.architecture"]
	return m.info.HasEncoder || m.info.IsDiffusion || arch == "gemma-embedding" || m.meta[arch+".attention.causal"] == "false"
}
