package llama

// Batch is the input of one Decode: tokens with their positions and sequences (llama_batch). Each token belongs to one
// sequence, so that an aborted decode can be rolled back whole. A Batch is reused by Clear and used by one goroutine at a
// time; its storage is Go memory, lent to llama.cpp during a Decode only.
type Batch struct {
	token, pos, seq []int32
	logits          []int8
	outputs         int
	capacity        int
	closed          bool
}

// NewBatch makes a batch for up to capacity tokens; a context takes at most its NBatch.
func NewBatch(capacity int) *Batch {
	capacity = max(capacity, 1)
	return &Batch{
		token: make([]int32, 0, capacity), pos: make([]int32, 0, capacity), seq: make([]int32, 0, capacity),
		logits: make([]int8, 0, capacity), capacity: capacity,
	}
}

// Add appends a token and gives its index, which names its logits after the decode when logits is set.
//
// # Errors
//
//   - [ErrInvalidBatch] when the batch is full, or p or s cannot be; [ErrInvalidToken]; [ErrClosed]
func (b *Batch) Add(t Token, p Pos, s SeqID, logits bool) (index int, err error) {
	switch {
	case b == nil || b.closed:
		return 0, ErrClosed
	case len(b.token) == b.capacity:
		return 0, errorf(ErrInvalidBatch, "the batch is full: its capacity is %d tokens", b.capacity)
	case t < 0:
		return 0, errorf(ErrInvalidToken, "token %d is negative", t)
	case p < 0 || p > maxPos:
		return 0, errorf(ErrInvalidBatch, "position %d: want 0 to %d", p, maxPos)
	case s < 0:
		return 0, errorf(ErrInvalidBatch, "sequence %d is negative", s)
	}
	b.token = append(b.token, int32(t))
	b.pos = append(b.pos, int32(p))
	b.seq = append(b.seq, int32(s))
	if logits {
		b.logits = append(b.logits, 1)
		b.outputs++
	} else {
		b.logits = append(b.logits, 0)
	}
	return len(b.token) - 1, nil
}

// Clear empties the batch and keeps its storage.
func (b *Batch) Clear() {
	if b == nil || b.closed {
		return
	}
	b.token, b.pos, b.seq, b.logits, b.outputs = b.token[:0], b.pos[:0], b.seq[:0], b.logits[:0], 0
}

// Len is the number of tokens.
func (b *Batch) Len() int {
	if b == nil {
		return 0
	}
	return len(b.token)
}

// Close makes the batch unusable; idempotent and nil-safe.
func (b *Batch) Close() error {
	if b != nil {
		*b = Batch{closed: true}
	}
	return nil
}
