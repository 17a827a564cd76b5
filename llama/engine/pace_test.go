package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPace: with a machine whose prompt tokens cost more and more, the steps of a
// long prompt are of even time, not of even length.
func TestPace(t *testing.T) {
	cost := func(tokens, cells int) time.Duration {
		return time.Duration(float64(tokens)*(5e6+2e3*float64(cells))) + 20*time.Millisecond
	}
	p := &pace{}
	for range 10 {
		p.observe(20*time.Millisecond, 0, true, 0)
	}
	require.Equal(t, firstPrompt, p.tokens(defaultPace, 0, 4096), "nothing is known yet")
	cells, first, last := 0, 0, 0
	for cells < 6000 {
		n := p.tokens(defaultPace, cells, 4096)
		took := cost(n, cells)
		p.observe(took, n, true, cells)
		if cells > 0 && n > leastPrompt {
			require.InDelta(t, defaultPace.Seconds(), took.Seconds(), 0.2, "%d tokens at %d", n, cells)
		}
		if first == 0 && cells > 0 {
			first = n
		}
		cells, last = cells+n, n
	}
	require.Greater(t, first, 2*last)

	require.Equal(t, leastPrompt, p.tokens(time.Millisecond, cells, 4096), "a pace that cannot be kept")
	require.Equal(t, 10, p.tokens(time.Millisecond, cells, 10))
	require.Equal(t, 4096, p.tokens(time.Hour, cells, 4096))
}
