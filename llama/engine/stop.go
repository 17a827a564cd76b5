package engine

// stopMatcher finds the first of several stop strings in text that arrives in
// pieces, and holds back only what may still become one. A stop string ends the
// text with the byte that completes it; where several are completed by the same
// byte, the longest is cut. The result does not depend on how the text was cut
// into pieces (Knuth, Morris, Pratt 1977: one automaton for each stop string).
type stopMatcher struct {
	stops []stopAutomaton
	held  []byte // the longest suffix of the text that begins a stop string
}

type stopAutomaton struct {
	stop  string
	fail  []int // fail[i]: length of the longest proper border of stop[:i+1]
	state int   // bytes of stop that are a suffix of the text
}

func newStopMatcher(stops []string) stopMatcher {
	m := stopMatcher{stops: make([]stopAutomaton, 0, len(stops))}
	for _, s := range stops {
		fail := make([]int, len(s))
		for i, k := 1, 0; i < len(s); i++ {
			for k > 0 && s[i] != s[k] {
				k = fail[k-1]
			}
			if s[i] == s[k] {
				k++
			}
			fail[i] = k
		}
		m.stops = append(m.stops, stopAutomaton{stop: s, fail: fail})
	}
	return m
}

// append takes the next piece and appends to dst the text that can be shown.
// After it has returned stopped, the text is over: nothing may follow.
func (m *stopMatcher) append(dst, piece []byte) (text []byte, stopped bool) {
	if len(m.stops) == 0 {
		return append(dst, piece...), false
	}
	shown := len(dst) + len(m.held)
	dst = append(append(dst, m.held...), piece...)
	for i, c := range piece {
		cut := 0
		for j := range m.stops {
			if a := &m.stops[j]; a.next(c) {
				cut = max(cut, len(a.stop))
			}
		}
		if cut > 0 {
			m.held = m.held[:0]
			return dst[:shown+i+1-cut], true
		}
	}
	hold := 0
	for j := range m.stops {
		hold = max(hold, m.stops[j].state)
	}
	shown = len(dst) - hold
	m.held = append(m.held[:0], dst[shown:]...)
	return dst[:shown], false
}

// flush appends what was held back: the text ended without a stop string.
func (m *stopMatcher) flush(dst []byte) []byte {
	dst = append(dst, m.held...)
	m.held = m.held[:0]
	return dst
}

// next takes one byte and reports whether it completes the stop string.
func (a *stopAutomaton) next(c byte) bool {
	for a.state > 0 && a.stop[a.state] != c {
		a.state = a.fail[a.state-1]
	}
	if a.stop[a.state] == c {
		a.state++
	}
	return a.state == len(a.stop)
}
