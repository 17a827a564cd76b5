package llama

// Memory is a context's KV cache or recurrent state (llama_memory_t). Its methods follow the rules of [Context].
//
// Positions are half open ranges [p0, p1); p0 < 0 means from the start, p1 < 0 to the end.
//
// With a sliding window ([Model.NSWA] > 0 and not [ContextParams.SWAFull]) positions before the window are gone: PosMin tells.
// After SeqCopy of a part the copy may lack its window, which llama.cpp does not notice: decode into a copy of length n only
// if PosMax is n-1 and PosMin is at most max(0, n-NSWA); -1 means that nothing is there.
type Memory struct{ c *Context }

func (m *Memory) lock(seqs ...SeqID) error {
	if err := m.c.lock(); err != nil {
		return err
	}
	for _, s := range seqs {
		if s < 0 || int(s) >= m.c.NSeqMax() {
			m.c.mu.Unlock()
			return errorf(ErrInvalidParam, "sequence %d: the context has 0 to %d", s, m.c.NSeqMax()-1)
		}
	}
	return nil
}

// Clear forgets all sequences (llama_memory_clear).
func (m *Memory) Clear() error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	return allocated(m.c.native.MemoryClear(true))
}

// SeqRemove forgets the positions [p0, p1) of a sequence (llama_memory_seq_rm).
//
// # Errors
//
//   - [ErrUnsupported] when the model's memory cannot forget a part of a sequence (recurrent ones); nothing changed
//   - [ErrInvalidParam], [ErrClosed]
func (m *Memory) SeqRemove(s SeqID, p0, p1 Pos) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	if !m.c.native.MemorySeqRemove(int32(s), int32(p0), int32(p1)) {
		return errorf(ErrUnsupported, "this model's memory cannot remove a part of a sequence: remove all of it")
	}
	return nil
}

// SeqCopy lets dst share the positions [p0, p1) of src (llama_memory_seq_cp). Without KVUnified it copies the data when the
// next decode begins, and only whole sequences.
//
// # Errors
//
//   - [ErrUnsupported] for a part of a sequence without KVUnified
//   - [ErrInvalidParam], [ErrClosed]
func (m *Memory) SeqCopy(src, dst SeqID, p0, p1 Pos) error {
	if err := m.lock(src, dst); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	if src == dst {
		return nil
	}
	if !m.c.params.KVUnified {
		lo, hi := m.c.native.MemoryPos(int32(src))
		if p0 > 0 && int32(p0) > lo || p1 >= 0 && int32(p1) <= hi {
			return errorf(ErrUnsupported, "without KVUnified only whole sequences can be copied, not positions %d to %d of %d to %d", p0, p1, lo, hi)
		}
		p0, p1 = -1, -1
	}
	return allocated(m.c.native.MemorySeqCopy(int32(src), int32(dst), int32(p0), int32(p1)))
}

// SeqKeep forgets all other sequences (llama_memory_seq_keep).
func (m *Memory) SeqKeep(s SeqID) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	return allocated(m.c.native.MemorySeqKeep(int32(s)))
}

// SeqAdd adds delta to the positions [p0, p1) of a sequence (llama_memory_seq_add). Cells that other sequences share by SeqCopy
// move for them too; what would get a negative position is forgotten.
//
// # Errors
//
//   - [ErrUnsupported] where CanShift is false
//   - [ErrInvalidParam], [ErrClosed]
func (m *Memory) SeqAdd(s SeqID, p0, p1, delta Pos) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	if err := m.canShift(); err != nil {
		return err
	}
	if delta < -maxPos || delta > maxPos {
		return errorf(ErrInvalidParam, "SeqAdd of %d", delta)
	}
	return allocated(m.c.native.MemorySeqAdd(int32(s), int32(p0), int32(p1), int32(delta)))
}

// SeqDiv divides the positions [p0, p1) of a sequence by d > 1 (llama_memory_seq_div).
//
// # Errors
//
//   - [ErrUnsupported] where CanShift is false
//   - [ErrInvalidParam] for d < 1; [ErrClosed]
func (m *Memory) SeqDiv(s SeqID, p0, p1 Pos, d int) error {
	if err := m.lock(s); err != nil {
		return err
	}
	defer m.c.mu.Unlock()
	if err := m.canShift(); err != nil {
		return err
	}
	if d < 1 || d > maxPos {
		return errorf(ErrInvalidParam, "SeqDiv by %d", d)
	}
	return allocated(m.c.native.MemorySeqDiv(int32(s), int32(p0), int32(p1), int32(d)))
}

// PosMin is the smallest position of a sequence in memory, -1 when it is empty or s is no sequence (llama_memory_seq_pos_min).
func (m *Memory) PosMin(s SeqID) Pos {
	lo, _ := m.pos(s)
	return lo
}

// PosMax is the largest position of a sequence in memory, -1 when it is empty or s is no sequence (llama_memory_seq_pos_max).
func (m *Memory) PosMax(s SeqID) Pos {
	_, hi := m.pos(s)
	return hi
}

func (m *Memory) pos(s SeqID) (lo, hi Pos) {
	if m.lock(s) != nil {
		return -1, -1
	}
	defer m.c.mu.Unlock()
	l, h := m.c.native.MemoryPos(int32(s))
	return Pos(l), Pos(h)
}

// CanShift says whether SeqAdd and SeqDiv work: the model's memory must allow it (llama_memory_can_shift), and TypeK must be KVF16
// or KVF32.
func (m *Memory) CanShift() bool { return m.c.info.CanShift }

func (m *Memory) canShift() error {
	if !m.c.info.CanShift {
		return errorf(ErrUnsupported, "this model's memory cannot shift positions")
	}
	return nil
}

// allocated gives the outcome of an operation that refuses nothing: only memory can have run out.
func allocated(ok bool) error {
	if !ok {
		return &ErrInsufficientMemory{What: "memory operation", Text: "llama.cpp could not allocate"}
	}
	return nil
}
