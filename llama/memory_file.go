package llama

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// stateHead is the first line of a saved state, in JSON. What it says must be true of the context that takes the state:
// llama.cpp checks little of it.
type stateHead struct {
	Format  string `json:"format"`
	Kind    string `json:"kind"`  // stateSeq or stateAll
	Tree    string `json:"tree"`  // of llama.cpp
	Model   string `json:"model"` // fingerprint of its file
	TypeK   KVType `json:"type_k"`
	TypeV   KVType `json:"type_v"`
	Streams int    `json:"streams"`
	SWAFull bool   `json:"swa_full"`
	Bytes   int    `json:"bytes"`  // behind the line
	Sum     string `json:"sha256"` // of those
}

const (
	stateFormat   = "lm-sandbox state 1"
	stateSeq      = "sequence"
	stateAll      = "memory"
	mostStateHead = 4096
)

var errStateRefused = errorf(ErrState, "the context does not take this state: it has another FlashAttn than the one that saved it, or not enough free cells")

// Save writes the state of all sequences: a line of JSON that says what it is of, and llama.cpp's bytes with a checksum. It can
// be loaded into a context of the same model and llama.cpp, with the same KV types, streams and SWAFull, and room for it.
// Adapters are not told: who loads it must set those with which it was computed.
//
// # Errors
//
//   - [ErrUnsupported] where there is no memory
//   - the errors of w and of the model's file, which is looked at; [ErrClosed]
//
// C: llama_state_get_data
func (m *Memory) Save(w io.Writer) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	return m.save(w, stateAll, m.c.native.StateSize, m.c.native.StateGet)
}

// SaveSeq is Save of one sequence. It can be loaded as any sequence, and beside others.
//
// # Errors
//
//   - as Save; [ErrInvalidParam] for a sequence that cannot be
//
// C: llama_state_seq_get_data_ext
func (m *Memory) SaveSeq(s SeqID, w io.Writer) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	return m.save(w, stateSeq,
		func() int { return m.c.native.StateSeqSize(int32(s), uint32(StateWhole)) },
		func(dst []byte) int { return m.c.native.StateSeqGet(int32(s), dst, uint32(StateWhole)) })
}

func (m *Memory) save(w io.Writer, kind string, size func() int, get func([]byte) int) error {
	head, err := m.stateHead(kind)
	if err != nil {
		return err
	}
	data := make([]byte, size())
	if n := get(data); n == 0 || n != len(data) {
		return errorf(ErrUnsupported, "the state cannot be copied")
	}
	sum := sha256.Sum256(data)
	head.Bytes, head.Sum = len(data), hex.EncodeToString(sum[:])
	line, err := json.Marshal(head)
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		return fmt.Errorf("llama: save: %w", err)
	}
	return nil
}

// stateHead describes the context.
func (m *Memory) stateHead(kind string) (stateHead, error) {
	c := m.c
	if !c.info.HasMemory {
		return stateHead{}, errorf(ErrUnsupported, "the model has no memory")
	}
	model, err := c.model.fingerprint()
	if err != nil {
		return stateHead{}, err
	}
	h := stateHead{
		Format: stateFormat, Kind: kind, Tree: llamacpp.Tree, Model: model,
		TypeK: c.params.TypeK, TypeV: c.params.TypeV, Streams: 1, SWAFull: c.params.SWAFull,
	}
	if kind == stateAll && !c.params.KVUnified {
		h.Streams = c.NSeqMax()
	}
	return h, nil
}

// Load replaces the state of all sequences by one that Save has written, and reads no further. Only load what can be trusted:
// the checksum finds what is broken, not what somebody has made up. What is refused leaves the memory as
// it was; only where llama.cpp itself finds fault with the state is it empty.
//
// # Errors
//
//   - [ErrState], with what is different or broken
//   - the errors of r and of the model's file; [ErrUnsupported], [ErrClosed]
//
// C: llama_state_set_data
func (m *Memory) Load(r io.Reader) error {
	data, err := m.read(r, stateAll)
	if err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	m.c.outputs = m.c.outputs[:0]
	if m.c.native.StateSet(data) != len(data) {
		m.c.native.MemoryClear(true)
		return errStateRefused
	}
	return nil
}

// LoadSeq gives a sequence what SaveSeq has written, in place of what it has. What is refused leaves it as it was; only where llama.cpp
// itself finds fault with the state is it empty.
//
// # Errors
//
//   - as Load; [ErrInvalidParam] for a sequence that cannot be
//
// C: llama_state_seq_set_data_ext
func (m *Memory) LoadSeq(s SeqID, r io.Reader) error {
	if err := m.lock(s); err != nil {
		return err
	}
	m.c.mu.Unlock()
	data, err := m.read(r, stateSeq)
	if err != nil {
		return err
	}
	if err := m.SetSeqState(s, data, StateWhole); err != nil {
		if errors.Is(err, ErrUnsupported) {
			err = errStateRefused
		}
		return errors.Join(err, m.SeqRemove(s, -1, -1))
	}
	return nil
}

// read reads a state and checks that it is one for this context.
func (m *Memory) read(r io.Reader, kind string) ([]byte, error) {
	line, err := readLine(r, mostStateHead)
	if err != nil {
		return nil, err
	}
	var h stateHead
	if json.Unmarshal(line, &h) != nil || h.Format != stateFormat {
		return nil, errorf(ErrState, "it does not begin as a saved state does")
	}
	if err := m.lock(); err != nil {
		return nil, err
	}
	want, err := m.stateHead(kind)
	m.c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		what      string
		have, our any
	}{
		{"of a " + h.Kind, h.Kind, want.Kind}, {"of llama.cpp " + h.Tree, h.Tree, want.Tree}, {"of another model", h.Model, want.Model},
		{"with another TypeK", h.TypeK, want.TypeK}, {"with another TypeV", h.TypeV, want.TypeV},
		{fmt.Sprintf("with %d streams", h.Streams), h.Streams, want.Streams}, {"with another SWAFull", h.SWAFull, want.SWAFull},
	} {
		if f.have != f.our {
			return nil, errorf(ErrState, "it is a state %.100s", f.what)
		}
	}
	var data bytes.Buffer // grows with what is there: the length is not believed
	if _, err := io.CopyN(&data, r, int64(h.Bytes)); errors.Is(err, io.EOF) {
		return nil, errorf(ErrState, "it ends after %d of %d bytes", data.Len(), h.Bytes)
	} else if err != nil {
		return nil, fmt.Errorf("llama: load: %w", err)
	}
	if sum := sha256.Sum256(data.Bytes()); h.Bytes <= 0 || hex.EncodeToString(sum[:]) != h.Sum {
		return nil, errorf(ErrState, "its checksum is wrong")
	}
	return data.Bytes(), nil
}

// readLine reads a line of at most so many bytes, and no byte behind it.
func readLine(r io.Reader, most int) (line []byte, err error) {
	var b [1]byte
	for len(line) < most {
		if _, err := io.ReadFull(r, b[:]); errors.Is(err, io.EOF) {
			return nil, errorf(ErrState, "it ends within its first line")
		} else if err != nil {
			return nil, fmt.Errorf("llama: load: %w", err)
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
	return nil, errorf(ErrState, "it does not begin as a saved state does")
}
