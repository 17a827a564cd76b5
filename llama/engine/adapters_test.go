package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGroups: groups take turns, whoever comes and goes.
func TestGroups(t *testing.T) {
	of := func(keys ...string) []*sequence {
		var out []*sequence
		for _, k := range keys {
			out = append(out, &sequence{key: key{adapters: k}})
		}
		return out
	}
	var g groups
	turns := func(n int, running []*sequence) (order string) {
		for range n {
			g.next(running)
			order += g.now
		}
		return order
	}
	g.next(nil)
	require.Equal(t, "aaa", turns(3, of("a", "a")))
	require.Equal(t, "ababab", turns(6, of("a", "b", "a")))
	require.Equal(t, "abcabc", turns(6, of("a", "b", "c")))
	require.Equal(t, "aaa", turns(3, of("a")))
	// Newcomers with adapters of their own, each gone after a step, do not overtake.
	waited := 0
	for i := range 100 {
		g.next(of("a", "b", string(rune(1000+i))))
		if waited++; g.now == "b" {
			waited = 0
		}
		require.Less(t, waited, 4)
	}
	require.LessOrEqual(t, len(g.last), 3, "what is gone is forgotten")
}
