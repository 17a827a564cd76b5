package engine

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// instantDecoder computes nothing, so that a benchmark sees the loop alone.
type instantDecoder struct{ *fakeDecoder }

func (instantDecoder) decode(feeds []feed, steps int) error {
	for i := range feeds {
		feeds[i].tokens = slices.Repeat([]llama.Token{1}, steps)
	}
	return nil
}

// BenchmarkLoopStep is the cost of one step without the model: planning,
// booking, and handing each token to its consumer.
func BenchmarkLoopStep(b *testing.B) {
	for _, sequences := range []int{1, 32} {
		b.Run(fmt.Sprintf("sequences=%d", sequences), func(b *testing.B) {
			d := instantDecoder{newFakeDecoder(nil, 1<<30)}
			l := newLoop(d, newScheduler(d.cells, 512, sequences, -1, d), func(tok llama.Token) bool { return tok == fakeEOG }, slog.New(slog.DiscardHandler))
			b.ReportAllocs()
			var consumers sync.WaitGroup
			for range sequences {
				s := newTestSequence([]llama.Token{1}, 1+b.N)
				l.submit(s)
				consumers.Go(func() {
					for closed := false; !closed; {
						<-s.out.ready
						_, _, closed = s.out.take(output{})
					}
				})
			}
			b.ResetTimer()
			go l.run()
			consumers.Wait()
			b.StopTimer()
			l.close()
		})
	}
}
