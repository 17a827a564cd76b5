package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// shiftedReference runs the fake model alone, with a context of full tokens.
func shiftedReference(prompt []llama.Token, n, keep, full int) (out []llama.Token) {
	all := slices.Clone(prompt)
	for len(out) < n {
		if len(all) > full {
			discard := (len(all) - keep) / 2
			all = slices.Concat(all[:keep], all[keep+discard:])
		}
		next := nextToken(all) + 1 // never the end
		all, out = append(all, next), append(out, next)
	}
	return out
}

// TestShift: sequences that outgrow the context, beside others that share their
// beginning, in memory that can be shifted and in memory that cannot.
func TestShift(t *testing.T) {
	for _, whole := range []bool{false, true} {
		for _, keep := range []int{0, 4, 36} {
			t.Run(fmt.Sprintf("whole=%v,keep=%d", whole, keep), func(t *testing.T) {
				const full, n = 40, 200
				r := rand.New(rand.NewPCG(3, uint64(keep)))
				d := newFakeDecoder(t, 4*full)
				d.noEOG, d.whole = true, whole
				l := startKeeping(t, d, 16, 3, 1<<20)
				beginning := randomPrompt(r, 30)
				var all []*sequence
				var prompts [][]llama.Token
				for i := range 9 {
					prompt := append(slices.Clone(beginning), randomPrompt(r, 2+i%3)...)
					s := newTestSequence(prompt, len(prompt)+n)
					if i%3 == 2 {
						s.limit = full + 1
					} else {
						s.keep, s.full = keep, full
					}
					all, prompts = append(all, s), append(prompts, prompt)
					l.submit(s)
				}
				for i, s := range all {
					<-s.retired
					require.NoError(t, s.err)
					require.Equal(t, shiftedReference(prompts[i], s.limit-s.prompt, keep, full), outputOf(s))
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				require.Greater(t, l.sched.shifted, uint64(6*n/full))
				require.Zero(t, l.sched.inUse())
				require.Equal(t, d.used(), l.sched.tree.cells)
			})
		}
	}
}
