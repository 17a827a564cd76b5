package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// simulation is a scheduler with a clock of its own: each step takes a second.
type simulation struct {
	*scheduler
	t     *testing.T
	now   time.Time
	order []*sequence // by end
}

// noMemory shares nothing.
type noMemory struct{}

func (noMemory) share() bool                               { return false }
func (noMemory) copy(llama.SeqID, llama.SeqID, int) bool   { return false }
func (noMemory) truncate(llama.SeqID, int) bool            { return true }
func (noMemory) save(llama.SeqID, int, int) []byte         { return nil }
func (noMemory) restore(llama.SeqID, []byte, int, int) int { return 0 }
func (noMemory) shift(llama.SeqID, int, int) bool          { return false }
func (noMemory) move(llama.SeqID, llama.SeqID) bool        { return true }

func newSimulation(t *testing.T, cells, sequences int) *simulation {
	return &simulation{scheduler: newScheduler(cells, 64, sequences, -1, noMemory{}), t: t, now: time.Unix(1e6, 0)}
}

// add submits a request for n tokens with a prompt of as many.
func (s *simulation) add(caller string, priority, n int) *sequence {
	seq := newTestSequence(make([]llama.Token, n), 2*n)
	seq.caller, seq.priority, seq.submitted = caller, priority, s.now
	s.submit(seq)
	return seq
}

// addEndless submits a request that shifts whenever it has more than full tokens.
func (s *simulation) addEndless(caller string, priority, n, keep, full int) *sequence {
	seq := s.add(caller, priority, n)
	seq.keep, seq.full, seq.limit = keep, full, 1<<30
	return seq
}

// until steps until a request has ended.
func (s *simulation) until(seq *sequence, most int) {
	s.t.Helper()
	for i := 0; seq.state != ended; i++ {
		require.Less(s.t, i, most, "it never gets a turn")
		s.step()
	}
}

func (s *simulation) step() {
	feeds := s.plan(nil, s.now)
	require.LessOrEqual(s.t, s.tree.cells, s.cells)
	require.LessOrEqual(s.t, len(s.running), s.most)
	for _, f := range feeds {
		require.LessOrEqual(s.t, f.seq.past+f.n, f.seq.leaf.room())
		if f.seq.started.IsZero() {
			f.seq.started = s.now
		}
		if f.seq.past += f.n; f.sample {
			f.seq.tokens = append(f.seq.tokens, 1)
		}
		if f.seq.length() == f.seq.limit {
			s.retire(f.seq, true)
			s.order = append(s.order, f.seq)
		}
	}
	s.now = s.now.Add(time.Second)
}

func (s *simulation) run() {
	for i := 0; !s.idle(); i++ {
		require.Less(s.t, i, 100_000, "something never ends")
		s.step()
	}
	require.Empty(s.t, s.callers, "callers who have nothing here are forgotten")
	require.Zero(s.t, s.tree.cells)
}

func TestQueuePriority(t *testing.T) {
	t.Run("higher first", func(t *testing.T) {
		s := newSimulation(t, 1000, 1)
		first := s.add("", 0, 4)
		s.step()
		low, middle, high := s.add("a", -1, 4), s.add("", 0, 4), s.add("b", 0, 4)
		s.run()
		require.Equal(t, []*sequence{first, middle, high, low}, s.order)
	})
	t.Run("takes the place of a lower one", func(t *testing.T) {
		s := newSimulation(t, 1000, 2)
		older, lower := s.add("", 0, 10), s.add("", 0, 10)
		s.step()
		high := s.add("", 5, 4)
		s.step()
		require.Equal(t, running, older.state)
		require.Equal(t, waiting, lower.state, "the last one gives way")
		s.run()
		require.Equal(t, []*sequence{high, older, lower}, s.order)
		require.Equal(t, uint64(1), s.preempted)
	})
	t.Run("but not of an equal or an old one", func(t *testing.T) {
		s := newSimulation(t, 1000, 1)
		old := s.add("", 0, 40)
		for range 35 {
			s.step()
		}
		s.add("", 0, 4)
		s.add("", 3, 4) // 30 s
		s.step()
		require.Equal(t, running, old.state)
		s.run()
		require.Zero(t, s.preempted)
	})
	t.Run("cells too", func(t *testing.T) {
		s := newSimulation(t, 100, 4)
		low := s.add("", 0, 48)
		s.step()
		high := s.add("", 1, 48)
		s.step()
		require.Equal(t, running, high.state)
		require.Equal(t, waiting, low.state)
		s.run()
	})
}

// shiftable can shift.
type shiftable struct{ noMemory }

func (shiftable) shift(llama.SeqID, int, int) bool { return true }

// TestQueueEndless: what shifts for ever takes turns with those who came, by contexts of
// tokens; all that ends does so, and no turn is shorter.
func TestQueueEndless(t *testing.T) {
	const full = 40
	one, four := []string{"", "", "", ""}, []string{"a", "b", "c", "d"}
	for _, mem := range []memory{noMemory{}, shiftable{}} {
		for _, tt := range []struct {
			callers                 []string
			cells, sequences, quota int
		}{
			{one, full, 4, 0}, {four, full, 4, 0}, {one, 2*full + 10, 2, 0}, {four, 2*full + 10, 2, 0}, {one, 3 * full, 3, full}, {four, 3 * full, 3, full},
			{one, 2*full + 10, 4, 0}, {four, 2*full + 10, 4, 0},
		} {
			for _, keep := range []int{0, 10, 36} {
				t.Run(fmt.Sprintf("%T,%+v,keep=%d", mem, tt, keep), func(t *testing.T) {
					s := newSimulation(t, tt.cells, tt.sequences)
					s.mem, s.quota, s.batch = mem, tt.quota, 16
					var endless []*sequence
					for _, c := range tt.callers[:3] {
						endless = append(endless, s.addEndless(c, 0, 10, keep, full))
						s.step()
					}
					s.until(s.add(tt.callers[3], 0, 10), 4*100*full)
					before := s.preempted
					const steps = 200 * full
					for range steps {
						s.step()
						for _, seq := range s.running {
							require.LessOrEqual(t, seq.past, len(seq.tokens))
						}
						for _, seq := range s.queue {
							require.LessOrEqual(t, len(seq.tokens), full, "nobody waits with more than it can have")
						}
					}
					for _, seq := range endless {
						require.Greater(t, seq.length(), 10*full, "all get turns")
					}
					if mem == (shiftable{}) && tt.cells == full { // else each gives its place up with each shift, or for want of cells
						require.LessOrEqual(t, s.preempted-before, uint64(steps/full), "no turn is shorter than a context")
					}
					for _, seq := range endless {
						seq.limit = seq.length() + full
					}
					s.run()
				})
			}
		}
	}
}

// TestQueueEndlessInVain: what never ends does not give way to what finds no room all the same, and does not come
// and go while that waits.
func TestQueueEndlessInVain(t *testing.T) {
	s := newSimulation(t, 100, 3)
	s.mem = shiftable{}
	endless := s.addEndless("a", 0, 5, 0, 20)
	s.step()
	long := s.add("b", 0, 10)
	long.limit = 80
	s.step()
	for long.length() < 30 {
		s.step()
	}
	large := s.add("b", 0, 60)
	for long.state != ended {
		before := endless.length()
		s.step()
		require.Equal(t, before+1, endless.length())
	}
	require.True(t, endless.again())
	require.Zero(t, s.preempted)
	s.step()
	require.Equal(t, running, large.state)

	// It waits for those who came before it, although its caller has nothing else.
	long = s.add("b", 0, 10)
	long.limit = 1 << 20
	s.preempt(endless)
	endless.arrived = s.now.Add(time.Second)
	require.Equal(t, long, s.next(s.now))
}

// TestQuotaEndlessInVain: within a quota too it gives way only to what came before it, and only where that helps.
func TestQuotaEndlessInVain(t *testing.T) {
	t.Run("a lower priority", func(t *testing.T) {
		s := newSimulation(t, 100, 3)
		s.mem, s.quota = shiftable{}, 30
		endless := s.addEndless("a", 10, 5, 0, 20)
		s.step()
		low := s.add("a", 0, 20)
		for range 90 {
			s.step()
		}
		require.True(t, endless.again())
		require.Zero(t, s.preempted)
		s.until(low, 1000)
	})
	t.Run("another one is in the way", func(t *testing.T) {
		s := newSimulation(t, 200, 3)
		s.mem, s.quota = shiftable{}, 80
		long := s.add("a", 0, 10)
		long.limit = 60
		s.step()
		endless := s.addEndless("a", 0, 5, 0, 20)
		s.step()
		large := s.add("a", 0, 60)
		for long.state != ended {
			s.step()
		}
		require.True(t, endless.again())
		require.Zero(t, s.preempted)
		s.until(large, 1000)
	})
}

// TestPreemptedOver: who must give way just when a shift is due has no more tokens than it may when it comes back.
func TestPreemptedOver(t *testing.T) {
	for _, keep := range []int{0, 16} {
		s := newSimulation(t, 100, 2)
		s.mem, s.batch = shiftable{}, 4
		seq := s.add("", 0, 10)
		seq.keep, seq.full, seq.limit = keep, 20, 200
		for !seq.over() {
			s.step()
		}
		s.preempt(seq)
		require.False(t, seq.over())
		require.Equal(t, uint64(1), s.shifted)
		s.run()
	}
}

// TestQueueStarvesNobody: a request of a low priority comes between an endless
// stream of higher ones, its own caller's or another's.
func TestQueueStarvesNobody(t *testing.T) {
	for _, caller := range []string{"", "other"} {
		t.Run(fmt.Sprintf("caller=%q", caller), func(t *testing.T) {
			s := newSimulation(t, 1000, 2)
			low := s.add("", -2, 3)
			for i := range 200 {
				if low.state == ended {
					require.Greater(t, i, 20, "the higher ones went first")
					require.Less(t, i, 120)
					return
				}
				s.add(caller, 2, 3)
				s.step()
			}
			t.Fatal("it has not ended")
		})
	}
}

// TestQueueIsFairToCallers: who has asked for much does not delay who asks for
// little.
func TestQueueIsFairToCallers(t *testing.T) {
	s := newSimulation(t, 10_000, 4)
	for range 100 {
		s.add("greedy", 0, 10)
	}
	s.step()
	var modest []*sequence
	for range 4 {
		modest = append(modest, s.add("modest", 0, 10))
	}
	s.run()
	for _, m := range modest {
		i := 0
		for s.order[i] != m {
			i++
		}
		require.Less(t, i, 16)
	}
}

func TestQueueQuota(t *testing.T) {
	s := newSimulation(t, 10_000, 8)
	s.quota = 130
	for range 6 {
		s.add("a", 0, 30)
		s.add("b", 0, 50)
	}
	together := 0
	for !s.idle() {
		s.step()
		together = max(together, len(s.running))
		for name, c := range s.callers {
			require.LessOrEqual(t, s.held(c), 130, name)
		}
	}
	require.Greater(t, together, 2)
	require.Len(t, s.order, 12)
	require.Zero(t, s.tree.cells)
}

// TestSchedulerProperty: whatever comes, every request ends with its own output,
// cells and quotas are never exceeded, and nothing is left. With every other seed some shift.
func TestSchedulerProperty(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 20))
			d := newFakeDecoder(t, 100+r.IntN(200))
			d.whole = r.IntN(4) == 0
			d.noEOG = seed%2 == 1
			d.fail = func(int) error {
				if used := d.used(); used > d.cells {
					t.Errorf("%d of %d cells", used, d.cells)
				}
				return nil
			}
			l := startKeeping(t, d, 8+r.IntN(32), 1+r.IntN(6), int64(r.IntN(8000)-1))
			quota := 0
			if r.IntN(2) == 0 {
				quota = 60 + r.IntN(60)
			}
			l.mu.Lock()
			l.sched.quota = quota
			l.mu.Unlock()
			d.order = func([]feed) {
				l.mu.Lock()
				defer l.mu.Unlock()
				for name, c := range l.sched.callers {
					if quota > 0 && l.sched.held(c) > quota {
						t.Errorf("caller %q holds %d cells of %d", name, l.sched.held(c), quota)
					}
				}
			}
			beginnings := [][]llama.Token{nil, randomPrompt(r, 20), randomPrompt(r, 40)}
			var wg sync.WaitGroup
			for range 40 {
				b := beginnings[r.IntN(len(beginnings))]
				prompt := slices.Concat(b, randomPrompt(r, 1+r.IntN(10)))
				seq := newTestSequence(prompt, len(prompt)+1+r.IntN(60-len(prompt)))
				seq.priority, seq.caller = r.IntN(5)-2, string(rune('a'+r.IntN(3)))
				seq.pace = time.Duration(r.IntN(2)) * time.Microsecond
				want := func() []llama.Token { return reference(prompt, seq.limit) }
				if d.noEOG {
					keep, full := 0, 1<<30
					if r.IntN(3) == 0 {
						keep, full = r.IntN(57), 60
						seq.keep, seq.full, seq.limit = keep, full, len(prompt)+1+r.IntN(500)
					}
					want = func() []llama.Token { return shiftedReference(prompt, seq.limit-len(prompt), keep, full) }
				}
				cancel := r.IntN(4) == 0
				wait := time.Duration(r.IntN(500)) * time.Microsecond
				wg.Go(func() {
					l.submit(seq)
					if cancel {
						time.Sleep(wait)
						l.cancel(seq)
					}
					<-seq.retired
					got, want := outputOf(seq), want()
					switch {
					case seq.err != nil:
						t.Error(seq.err)
					case !cancel && len(got) != len(want), len(got) > len(want):
						t.Errorf("%d tokens, want %d", len(got), len(want))
					default:
						for i := range got {
							if got[i] != want[i] {
								t.Errorf("token %d is %d, want %d", i, got[i], want[i])
								break
							}
						}
					}
				})
			}
			wg.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			require.Empty(t, l.sched.callers)
			require.Zero(t, l.sched.inUse())
			require.Equal(t, d.used(), l.sched.tree.cells)
			require.Equal(t, d.noEOG, l.sched.shifted > 0)
		})
	}
}
