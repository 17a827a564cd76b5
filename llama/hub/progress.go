package hub

import (
	"sync"
	"time"
)

// meter passes progress on to the caller's function, one call at a time and not too often.
type meter struct {
	ref   string
	fn    func(Progress)
	mu    sync.Mutex
	base  int64 // bytes of the files that are done
	total int64
	last  time.Time
	told  Progress
}

const meterPause = 100 * time.Millisecond

// start begins a pull of total bytes, 0 = unknown.
func (m *meter) start(total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base, m.total, m.last = 0, total, time.Time{}
}

// set says that done bytes of the file in work are here; size is the file's, 0 = unknown.
func (m *meter) set(done, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fn == nil {
		return
	}
	total := m.total
	if total == 0 && size > 0 {
		total = m.base + size
	}
	done += m.base
	if total > 0 && done > total {
		done = total
	}
	now, tell := time.Now(), Progress{Ref: m.ref, Done: done, Total: total}
	if tell == m.told || now.Sub(m.last) < meterPause && done != total {
		return
	}
	m.last, m.told = now, tell
	m.fn(tell)
}

// next counts the file in work, of size bytes, as done.
func (m *meter) next(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base += size
}
