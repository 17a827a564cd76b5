package engine

import "strings"

// stopMatcher finds the first of several stop strings in text that arrives in
// pieces, and holds back only what may still become one. A stop string ends the
// text with the byte that completes it; where several are completed by the same
// byte, the longest is cut. The result does not depend on how the text was cut
// into pieces (Knuth, Morris, Pratt 1977: one automaton for each stop string).
type stopMatcher struct {
	stops []stopAutomaton
	held  string // the longest suffix of the text that begins a stop string
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

// push takes the next piece and returns the text that can be shown. After it
// has returned stopped, the text is over: what follows must not be pushed.
func (m *stopMatcher) push(piece string) (text string, stopped bool) {
	if len(m.stops) == 0 {
		return piece, false
	}
	for i := range len(piece) {
		cut := 0
		for j := range m.stops {
			if a := &m.stops[j]; a.next(piece[i]) {
				cut = max(cut, len(a.stop))
			}
		}
		if cut > 0 {
			seen := m.held + piece[:i+1]
			m.held = ""
			return seen[:len(seen)-cut], true
		}
	}
	hold := 0
	for j := range m.stops {
		hold = max(hold, m.stops[j].state)
	}
	seen := m.held + piece
	// A copy, so that the few bytes do not keep the whole text alive.
	m.held = strings.Clone(seen[len(seen)-hold:])
	return seen[:len(seen)-hold], false
}

// flush returns what was held back: the text ended without a stop string.
func (m *stopMatcher) flush() string {
	held := m.held
	m.held = ""
	return held
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
