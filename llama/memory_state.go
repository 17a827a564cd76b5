package llama

// StateFlags say which part of a sequence's state is meant (llama_state_seq_flags).
type StateFlags uint32

// Parts of a sequence's state.
const (
	StateWhole StateFlags = 0
	// StatePartial is what cannot be computed back from the rest of the cache: the sliding windows and the recurrent
	// states. It goes on top of a sequence of as many tokens, and replaces them there.
	StatePartial StateFlags = 1
)

// SeqState copies what the memory has of a sequence. It can be given back to a context of the same model with the same
// KV types, flash attention and KVUnified. Without KVUnified a SeqCopy shows in it after the next decode only.
//
// # Errors
//
//   - [ErrUnsupported] where there is nothing that can be copied
//   - [ErrInvalidParam], [ErrClosed]
//
// C: llama_state_seq_get_data_ext
func (m *Memory) SeqState(s SeqID, flags StateFlags) ([]byte, error) {
	if err := m.lock(s); err != nil {
		return nil, err
	}
	defer m.c.mu.Unlock()
	if !m.c.info.HasMemory {
		return nil, errorf(ErrUnsupported, "the model has no memory")
	}
	data := make([]byte, m.c.native.StateSeqSize(int32(s), uint32(flags)))
	if n := m.c.native.StateSeqGet(int32(s), data, uint32(flags)); n == 0 || n != len(data) {
		return nil, errorf(ErrUnsupported, "the state of sequence %d cannot be copied", s)
	}
	return data, nil
}

// SetSeqState gives a sequence what SeqState copied, in place of what it has. Only use bytes that can be trusted: some that
// SeqState did not make end the process. After an error the sequence may hold a part: remove it.
//
// # Errors
//
//   - [ErrUnsupported] where the memory does not take it: made with other parameters, or not enough cells are free
//   - [ErrInvalidParam], [ErrClosed]
//
// C: llama_state_seq_set_data_ext
func (m *Memory) SetSeqState(s SeqID, state []byte, flags StateFlags) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	if !m.c.info.HasMemory || m.c.native.StateSeqSet(int32(s), state, uint32(flags)) != len(state) || len(state) == 0 {
		return errorf(ErrUnsupported, "sequence %d does not take this state: it was made with other parameters, or not enough cells are free", s)
	}
	return nil
}
