package engine

import "sync"

// mailbox hands a growing value from one goroutine to another without ever
// blocking the sender: what is not yet taken is merged. Its size is bounded by
// what the sender merges (here: by the output of one request).
type mailbox[T any] struct {
	ready chan struct{} // holds one signal while there is something to take

	mu     sync.Mutex
	value  T
	full   bool
	closed bool
}

func newMailbox[T any]() *mailbox[T] {
	return &mailbox[T]{ready: make(chan struct{}, 1)}
}

// put merges into the waiting value. Where merge reports that it had nothing to
// add, nobody is woken.
func (m *mailbox[T]) put(merge func(*T) bool) {
	m.mu.Lock()
	added := merge(&m.value)
	m.full = m.full || added
	m.mu.Unlock()
	if added {
		m.signal()
	}
}

// close says that nothing follows; what waits can still be taken.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.signal()
}

// take returns what waits (ok is false where nothing does) and whether the
// mailbox is closed, so that nothing can follow. What is put next is merged into
// empty, whose storage it may use.
func (m *mailbox[T]) take(empty T) (value T, ok, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok, closed = m.value, m.full, m.closed
	m.value, m.full = empty, false
	return value, ok, closed
}

func (m *mailbox[T]) signal() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}
