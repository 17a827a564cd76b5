package llama

import (
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Adapter is a LoRA adapter for one model (llama_adapter_lora). It is safe for use by many goroutines and by many contexts of
// the model. It ends with its model; Close ends it earlier.
type Adapter struct {
	model  *Model
	path   string
	head   adapterHead
	native native.Adapter

	mu     sync.Mutex
	uses   int // contexts that have it set
	closed bool
}

// AdapterScale is an adapter and how much of it is added to the weights: 1 is what it was trained as, 0 nothing.
type AdapterScale struct {
	Adapter *Adapter
	Scale   float32
}

// LoadAdapter loads a LoRA adapter, a GGUF file as llama.cpp's convert_lora_to_gguf.py makes it. It waits for the steps in
// flight of all contexts of the model, which wait for it.
//
// # Errors
//
//   - [ErrAdapter] when the file is none, or does not fit the model
//   - [ErrUnsupported] for an activated adapter (aLoRA) and for one that changes embeddings which are the output layer too
//   - [*ErrInsufficientMemory], [ErrClosed] and the errors of opening the file
//
// C: llama_adapter_lora_init
func LoadAdapter(m *Model, path string) (*Adapter, error) {
	if err := m.acquire(); err != nil {
		return nil, err
	}
	defer m.release()
	if m.vocabOnly {
		return nil, errorf(ErrUnsupported, "the model was loaded with VocabOnly: there are no weights to adapt")
	}
	head, err := m.checkAdapterFile(path)
	if err != nil {
		return nil, err
	}
	fitting.RLock() // first, as newContext does
	defer fitting.RUnlock()
	m.adapting.Lock()
	defer m.adapting.Unlock()
	na, err := native.LoadAdapter(m.native, path)
	if err != nil {
		return nil, fromNative(err, ErrAdapter, "adapter "+path)
	}
	return &Adapter{model: m, path: path, head: head, native: na}, nil
}

// checkAdapterFile looks at the file before llama.cpp does.
func (m *Model) checkAdapterFile(path string) (adapterHead, error) {
	f, err := os.Open(path)
	if err != nil {
		return adapterHead{}, fmt.Errorf("llama: adapter: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return adapterHead{}, fmt.Errorf("llama: adapter: %w", err)
	}
	if !st.Mode().IsRegular() {
		return adapterHead{}, errorf(ErrAdapter, "adapter %s: not a regular file", path)
	}
	head, err := readAdapter(f, st.Size(), m.meta["general.architecture"], m.meta)
	if err != nil {
		return head, errorf(ErrAdapter, "adapter %s: %v", path, err)
	}
	switch {
	case head.activated:
		return head, errorf(ErrUnsupported, "adapter %s: it begins to work at certain tokens (aLoRA), which is not supported", path)
	case head.embeddings && !m.plan.head.output:
		return head, errorf(ErrUnsupported, "adapter %s: it changes token_embd.weight, which is the output layer of this model too", path)
	}
	return head, nil
}

// Model is the model that the adapter is for.
func (a *Adapter) Model() *Model { return a.model }

// Path is what the adapter was loaded from.
func (a *Adapter) Path() string { return a.path }

// Rank is the largest rank of the adapter's matrices.
func (a *Adapter) Rank() int { return int(a.head.rank) }

// Alpha is the adapter's own scale: alpha/rank times AdapterScale.Scale of it is added; 0 means Scale alone.
func (a *Adapter) Alpha() float32 { return a.head.alpha }

// Close frees the adapter; it waits for the steps in flight of the model's contexts. It is idempotent, and does nothing after
// the model's Close.
//
// # Errors
//
//   - [ErrInUse] while a context has it set
//
// C: llama_adapter_lora_free
func (a *Adapter) Close() error {
	if a == nil || a.model.acquire() != nil {
		return nil
	}
	defer a.model.release()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return nil
	case a.uses > 0:
		return errorf(ErrInUse, "%d contexts have the adapter set", a.uses)
	}
	a.closed = true
	a.model.adapting.Lock()
	defer a.model.adapting.Unlock()
	a.native.Free()
	return nil
}

// use counts one more context.
func (a *Adapter) use() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	a.uses++
	return nil
}

func (a *Adapter) unuse() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uses--
}

// SetAdapters replaces the adapters that later decodes compute with; none for the model as it is. All sequences of a decode
// have the same ones. What is in memory already stays as it was computed: give sequences of other adapters other ids. Other
// adapters than before make the next decode plan its graph again.
//
// # Errors
//
//   - [ErrInvalidParam] for an adapter of another model, one that is given twice, or a scale that is no finite number
//   - [ErrClosed]
//
// C: llama_set_adapters_lora
func (c *Context) SetAdapters(adapters []AdapterScale) (err error) {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	var used []*Adapter
	defer func() {
		if err != nil {
			release(used)
		}
	}()
	handles, scales := make([]native.Adapter, 0, len(adapters)), make([]float32, 0, len(adapters))
	for i, s := range adapters {
		switch {
		case s.Adapter == nil:
			return ErrClosed
		case s.Adapter.model != c.model:
			return errorf(ErrInvalidParam, "adapter %d is for another model", i)
		case math.IsNaN(float64(s.Scale)) || math.IsInf(float64(s.Scale), 0):
			return errorf(ErrInvalidParam, "adapter %d: the scale is %v", i, s.Scale)
		}
		for _, before := range used {
			if before == s.Adapter {
				return errorf(ErrInvalidParam, "adapter %d is given twice", i)
			}
		}
		if err := s.Adapter.use(); err != nil {
			return err
		}
		used = append(used, s.Adapter)
		handles, scales = append(handles, s.Adapter.native), append(scales, s.Scale)
	}
	if err := c.native.SetAdapters(handles, scales); err != nil {
		return fromNative(err, ErrInvalidParam, "adapters")
	}
	release(c.adapters)
	c.adapters = used
	return nil
}

func release(adapters []*Adapter) {
	for _, a := range adapters {
		a.unuse()
	}
}
