package proxy

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Record is one decision and the connection that it allowed.
type Record struct {
	Start    time.Time
	Duration time.Duration
	Via      string
	Host     string
	Port     uint16
	Addr     netip.Addr
	Allowed  bool
	Rule     string
	Reason   string
	Up, Down int64
}

// MaxRecords are kept; what comes then is only counted, refused requests first.
const MaxRecords = 1000

// flow is a Record that is still being written.
type flow struct {
	s        *Server
	kept     bool // in s.flows; guarded by s.mu
	mu       sync.Mutex
	record   Record
	up, down atomic.Int64
	last     atomic.Int64 // when a byte passed, since the start
	idle     *time.Timer
}

// begin makes the record of a request that is to be decided.
func (s *Server) begin(via, host string, port uint16) *flow {
	f := &flow{s: s, record: Record{Start: time.Now(), Via: via, Host: clip(host), Port: port}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flows) < MaxRecords {
		f.kept = true
		s.flows = append(s.flows, f)
	} else {
		s.more++
	}
	return f
}

// clip keeps a hostile text from filling the records.
func clip(s string) string {
	if len(s) > maxName {
		return s[:maxName] + "…"
	}
	return s
}

func (f *flow) snapshot() Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.record
	r.Up, r.Down = f.up.Load(), f.down.Load()
	return r
}

// allowed notes that the connection is there.
func (f *flow) allowed(rule string, a netip.Addr) {
	f.mu.Lock()
	f.record.Allowed, f.record.Rule, f.record.Addr = true, rule, a
	f.mu.Unlock()
	f.s.keep(f)
	f.tell()
}

// keep has a connection take the place of a request that came to nothing, so that none
// is hidden behind many of those.
func (s *Server) keep(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.kept {
		return
	}
	if i := slices.IndexFunc(s.flows, (*flow).refused); i >= 0 {
		s.flows = append(slices.Delete(s.flows, i, i+1), f)
		f.kept = true
	}
}

func (f *flow) refused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.record.Allowed && f.record.Duration > 0
}

// at notes an address of the name that is refused.
func (f *flow) at(a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record.Addr = a
}

// because sets why it was refused or ended; the first reason counts.
func (f *flow) because(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.record.Reason == "" {
		f.record.Reason = reason
	}
}

func (f *flow) end() {
	f.mu.Lock()
	if f.idle != nil {
		f.idle.Stop()
	}
	f.record.Duration = max(time.Since(f.record.Start), 1)
	f.mu.Unlock()
	f.tell()
}

func (f *flow) tell() {
	if f.s.Notify != nil {
		f.s.Notify(f.snapshot())
	}
}

// refuse is the whole of a flow that comes to nothing.
func (s *Server) refuse(via, host string, port uint16, reason string) {
	f := s.begin(via, host, port)
	f.because(reason)
	f.end()
}

// meter is a connection to a destination: all bytes of a flow pass it.
type meter struct {
	net.Conn
	f *flow
}

func (m *meter) Read(b []byte) (int, error) {
	if err := m.f.quota(); err != nil {
		return 0, err
	}
	n, err := m.Conn.Read(b)
	m.f.passed(&m.f.down, n)
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	if err := m.f.quota(); err != nil {
		return 0, err
	}
	n, err := m.Conn.Write(b)
	m.f.passed(&m.f.up, n)
	return n, err
}

func (f *flow) passed(count *atomic.Int64, n int) {
	count.Add(int64(n))
	f.s.bytes.Add(int64(n))
	f.last.Store(int64(time.Since(f.record.Start)))
}

const reasonBytes = "MaxBytes is used up"

type quotaError struct{}

func (quotaError) Error() string { return reasonBytes }

func (f *flow) quota() error {
	if f.s.bytes.Load() < f.s.MaxBytes {
		return nil
	}
	f.because(reasonBytes)
	return quotaError{}
}

// watch closes the ends of a flow once no byte has passed for IdleTimeout.
func (f *flow) watch(ends ...net.Conn) {
	f.last.Store(int64(time.Since(f.record.Start)))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = time.AfterFunc(f.s.IdleTimeout, func() {
		if f.busy() {
			return
		}
		f.because("idle for " + f.s.IdleTimeout.String())
		for _, c := range ends {
			c.Close()
		}
	})
}

// busy says that a flow is not idle, and looks again later; or that it has ended just
// now: its client may have begun another one.
func (f *flow) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.record.Duration > 0 {
		return true
	}
	left := f.s.IdleTimeout - (time.Since(f.record.Start) - time.Duration(f.last.Load()))
	if left > 0 {
		f.idle.Reset(left)
	}
	return left > 0
}
