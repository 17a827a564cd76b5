package engine

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// stopReference is the definition that the streaming matcher must meet, on the
// whole text: the first byte that completes a stop string ends the text, the
// longest stop string that ends there is cut.
func stopReference(text string, stops []string) (string, bool) {
	for end := 1; end <= len(text); end++ {
		cut := 0
		for _, s := range stops {
			if strings.HasSuffix(text[:end], s) {
				cut = max(cut, len(s))
			}
		}
		if cut > 0 {
			return text[:end-cut], true
		}
	}
	return text, false
}

// stopHold is the shortest suffix that must be held back: the longest one that
// is a proper prefix of a stop string.
func stopHold(text string, stops []string) int {
	for n := len(text); n > 0; n-- {
		for _, s := range stops {
			if n < len(s) && strings.HasPrefix(s, text[len(text)-n:]) {
				return n
			}
		}
	}
	return 0
}

func TestStopMatcher(t *testing.T) {
	tests := []struct {
		name   string
		stops  []string
		pieces []string
		shown  []string // after each piece
		stop   bool
		rest   string
	}{
		{"none", nil, []string{"a", "b"}, []string{"a", "b"}, false, ""},
		{"whole piece", []string{"END"}, []string{"abc", "END"}, []string{"abc", ""}, true, ""},
		{"across pieces", []string{"END"}, []string{"xE", "N", "Dy"}, []string{"x", "", ""}, true, ""},
		{"false start", []string{"END"}, []string{"E", "NE", "x"}, []string{"", "EN", "Ex"}, false, ""},
		{"partial at the end", []string{"END"}, []string{"abEN"}, []string{"ab"}, false, "EN"},
		{"overlap", []string{"aab"}, []string{"aaa", "ab"}, []string{"a", "a"}, true, ""},
		{"earliest end wins", []string{"abcd", "bc"}, []string{"abc", "d"}, []string{"a"}, true, ""},
		{"longest of one end", []string{"c", "abc"}, []string{"zab", "c"}, []string{"z", ""}, true, ""},
		{"multi-byte", []string{"→é"}, []string{"x→", "é"}, []string{"x", ""}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newStopMatcher(tt.stops)
			stopped := false
			for i, shown := range tt.shown {
				var text []byte
				text, stopped = m.append([]byte("before"), []byte(tt.pieces[i]))
				require.Equal(t, "before"+shown, string(text), "piece %d", i)
				if stopped {
					break
				}
			}
			require.Equal(t, tt.stop, stopped)
			require.Equal(t, tt.rest, string(m.flush(nil)))
		})
	}
}

func FuzzStopMatcher(f *testing.F) {
	f.Add("abababcab", "abc", "ab", uint64(0b1011))
	f.Add("aaaaaab", "aaab", "b", uint64(0))
	f.Add("日本語 → é", "語", "→ é", uint64(0xffff))
	f.Add("<|im_end|>", "<|im_end|>", "<|im_start|>", uint64(5))
	f.Fuzz(func(t *testing.T, text, a, b string, cuts uint64) {
		var stops []string
		for _, s := range []string{a, b} {
			if s != "" && utf8.ValidString(s) {
				stops = append(stops, s)
			}
		}
		want, wantStop := stopReference(text, stops)

		m := newStopMatcher(stops)
		var got strings.Builder
		stopped, from := false, 0
		for to := 1; to <= len(text) && !stopped; to++ {
			if to < len(text) && cuts>>(to%64)&1 == 0 {
				continue
			}
			var shown []byte
			shown, stopped = m.append(nil, []byte(text[from:to]))
			got.Write(shown)
			from = to
			if !stopped {
				require.Equal(t, to-stopHold(text[:to], stops), got.Len(), "held back more or less than needed")
			}
		}
		if !stopped {
			got.Write(m.flush(nil))
		}
		require.Equal(t, wantStop, stopped)
		require.Equal(t, want, got.String())
	})
}
