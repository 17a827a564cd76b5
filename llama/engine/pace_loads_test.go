package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// machine computes nothing and tells how long it would have taken: two cores with
// the default model, fitted to the figures of BENCHMARKS.md.
type machine struct {
	*scheduler
	now   time.Time
	times map[*sequence][]time.Duration // of the tokens
	start time.Time
	each  time.Duration // pace of a sequence
}

// allShared is memory in which everything can be shared.
type allShared struct{ noMemory }

func (allShared) share() bool                             { return true }
func (allShared) copy(llama.SeqID, llama.SeqID, int) bool { return true }

func newMachine(pace time.Duration) *machine {
	start := time.Unix(1e6, 0)
	s := newScheduler(8192, defaultBatch, 16, -1, allShared{})
	s.apart = true
	return &machine{scheduler: s, now: start, start: start, times: map[*sequence][]time.Duration{}, each: pace}
}

func (m *machine) add(prompt []llama.Token, n int) *sequence {
	s := newTestSequence(prompt, len(prompt)+n)
	s.pace, s.submitted = m.each, m.now
	m.submit(s)
	return s
}

// step is loop.step with the time that it takes.
func (m *machine) step() {
	const ms = 1e-3
	feeds := m.plan(nil, m.now)
	took, prompts, generated := 12*ms, 0, false
	cells := float64(m.tree.cells)
	for _, f := range feeds {
		if f.n == 1 {
			took, generated = took+5*ms+0.9e-3*ms*cells, true
			continue
		}
		prompts += f.n
		took += float64(f.n) * (3.6*ms + 1.5e-3*ms*float64(f.seq.past+f.n/2) + 0.2e-3*ms*cells)
	}
	d := time.Duration(took * float64(time.Second))
	m.now = m.now.Add(d)
	for _, f := range feeds {
		if f.seq.past += f.n; !f.sample {
			continue
		}
		f.seq.tokens = append(f.seq.tokens, 1)
		if f.seq.first.IsZero() {
			f.seq.first = m.now
		}
		m.times[f.seq] = append(m.times[f.seq], m.now.Sub(m.start))
		if f.seq.length() == f.seq.limit {
			m.retire(f.seq, true)
		}
	}
	m.observe(d, prompts, generated)
}

// gaps are the times between two tokens of one sequence, sorted.
func (m *machine) gaps() (gaps []float64) {
	for _, times := range m.times {
		for i := 1; i < len(times); i++ {
			gaps = append(gaps, (times[i] - times[i-1]).Seconds())
		}
	}
	slices.Sort(gaps)
	return gaps
}

// crowd runs 16 clients at once and returns wall, median of the first tokens, and
// the 99th percentile of the gaps, in seconds.
func (m *machine) crowd(shared bool) (wall, first, p99 float64) {
	r := rand.New(rand.NewPCG(1, 2))
	system := randomPrompt(r, 600)
	for range 16 {
		if !shared {
			system = randomPrompt(r, 600)
		}
		m.add(append(slices.Clone(system), randomPrompt(r, 30)...), 32)
	}
	for !m.idle() {
		m.step()
	}
	var firsts []float64
	for _, times := range m.times {
		firsts = append(firsts, times[0].Seconds())
	}
	slices.Sort(firsts)
	gaps := m.gaps()
	return m.now.Sub(m.start).Seconds(), (firsts[7] + firsts[8]) / 2, gaps[len(gaps)*99/100]
}

// TestPaceOfLoads: one default pace is good at every load. What llama-server does at
// its best in each of them is, on the same machine, one slot, or no pace at all.
func TestPaceOfLoads(t *testing.T) {
	t.Run("shared prompt", func(t *testing.T) {
		oneByOne := newMachine(defaultPace)
		oneByOne.most, oneByOne.parking = 1, newParking(1<<20, false)
		theirWall, theirFirst, _ := oneByOne.crowd(true)
		wall, first, p99 := newMachine(defaultPace).crowd(true)
		require.LessOrEqual(t, wall, 0.85*theirWall)
		require.LessOrEqual(t, first, 0.65*theirFirst)
		require.LessOrEqual(t, p99, 0.45)
	})
	t.Run("different prompts", func(t *testing.T) {
		theirWall, _, _ := newMachine(0).crowd(false)
		wall, first, p99 := newMachine(defaultPace).crowd(false)
		require.LessOrEqual(t, wall, 1.05*theirWall)
		require.LessOrEqual(t, first, 0.55*wall, "one prompt after the other")
		require.LessOrEqual(t, p99, 1.0)
	})
	t.Run("arrival", func(t *testing.T) {
		theirs, theirGap := newMachine(0).arrival()
		newcomer, gap := newMachine(defaultPace).arrival()
		require.LessOrEqual(t, newcomer, 1.25*theirs)
		require.LessOrEqual(t, gap, 1.0)
		require.Greater(t, theirGap, 2.0)
	})
}

// arrival runs 8 streams to which a long prompt comes.
func (m *machine) arrival() (newcomer, gap float64) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		m.add(randomPrompt(r, 30), 600)
	}
	for range 10 {
		m.step()
	}
	clear(m.times)
	came := m.now
	n := m.add(randomPrompt(r, 2000), 1)
	for n.state != ended {
		m.step()
	}
	gaps := m.gaps()
	return m.now.Sub(came).Seconds(), gaps[len(gaps)-1]
}
