package engine

import (
	"math"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// guesser decides what a step guesses of the tokens behind those that it computes.
type guesser struct {
	ngram int
	most  int // guesses of one sequence
	batch int // tokens of a step
	model *draftModel
	cost  guessCost
}

// guesses are what a sequence has been guessed to go on with.
type guesses struct {
	odds              [2]odds // of NGram and of the draft model
	drafted, accepted int
}

// odds counts which guesses were right, the last ones most.
type odds struct{ right, tried float64 }

// recent is how much a guess counts when the next one is decided.
const recent = 0.95

func (o *odds) add(right, wrong int) {
	for range right {
		o.right, o.tried = o.right*recent+1, o.tried*recent+1
	}
	for range wrong {
		o.right, o.tried = o.right*recent, o.tried*recent+1
	}
}

// next is the probability that the next guess is right: at first so high that it is
// found out.
func (o *odds) next() float64 { return (o.right + 0.8) / (o.tried + 1) }

// plan guesses for the sequences of a step, all of which generate, and decides how many
// guesses are computed. The draft model, where it is asked, comes later.
func (g *guesser) plan(feeds []feed) {
	for i := range feeds {
		if feeds[i].n > 1 || !feeds[i].sample {
			return
		}
	}
	for i := range feeds {
		f := &feeds[i]
		seq := f.seq
		most := min(g.most, seq.limit-seq.length()-1, seq.leaf.room()-len(seq.tokens))
		if most <= 0 || seq.process != nil {
			continue
		}
		if g.ngram > 0 {
			f.guess = repeated(seq.tokens, g.ngram, most)
		}
		if f.most = len(f.guess); f.most == 0 && g.model != nil {
			f.by, f.most = byModel, most
		}
	}
	g.choose(feeds)
}

// Who guessed.
const (
	byNGram = iota
	byModel
)

// asks says that the draft model is to guess.
func (f *feed) asks() bool { return f.by == byModel && f.draft > 0 }

// choose decides how many guesses of each sequence are computed: those with which the
// step is likely to give the most tokens per time, none where that is hardly more than
// without.
func (g *guesser) choose(feeds []feed) {
	n := len(feeds)
	best, keep := worth*float64(n)/g.cost.step(n), 0
	tokens, models := float64(n), 0
	g.deal(feeds, g.batch-n, func(dealt int, f *feed) {
		tokens += math.Pow(f.seq.guesses.odds[f.by].next(), float64(f.draft))
		if f.by == byModel {
			models++
		}
		if rate := tokens / (g.cost.step(n) + g.cost.guesses(dealt) + g.cost.model*float64(models)); rate > best {
			best, keep = rate, dealt
		}
	})
	for i := range feeds {
		feeds[i].draft = 0
	}
	g.deal(feeds, keep, func(int, *feed) {})
}

// worth is how much faster a step with guesses must be expected to be.
const worth = 1.1

// deal gives the sequences n guesses, or all there are, one to each and again.
func (g *guesser) deal(feeds []feed, n int, each func(dealt int, f *feed)) {
	dealt := 0
	for k, more := 1, true; more; k++ {
		more = false
		for i := range feeds {
			if f := &feeds[i]; f.draft == k-1 && f.most >= k && dealt < n {
				f.draft, more = k, true
				dealt++
				each(dealt, f)
			}
		}
	}
}

// repeated is what followed when the last n tokens were there before, latest first: up
// to most tokens, nothing where they were not.
func repeated(tokens []llama.Token, n, most int) []llama.Token {
	if len(tokens) <= n {
		return nil
	}
	end := len(tokens) - n
	last := tokens[end:]
	for i := end - 1; i >= 0; i-- {
		if tokens[i] == last[0] && slices.Equal(tokens[i:i+n], last) {
			return tokens[i+n : min(i+n+most, len(tokens))]
		}
	}
	return nil
}

// ask lets the draft model guess for those sequences that have been given guesses of it.
func (g *guesser) ask(feeds []feed) {
	if g.model == nil || !slices.ContainsFunc(feeds, func(f feed) bool { return f.asks() }) {
		return
	}
	begin := time.Now()
	if n := g.model.guess(feeds); n > 0 {
		g.cost.drafted(time.Since(begin), n)
	}
}

// observe learns from a step that has been computed in that time.
func (g *guesser) observe(feeds []feed, took time.Duration) {
	drafted := 0
	for i := range feeds {
		f := &feeds[i]
		if f.n > 1 || !f.sample {
			return
		}
		drafted += f.draft
		right := common(f.guess, f.tokens)
		wrong := 0
		if right < min(len(f.guess), len(f.tokens)) {
			wrong = 1
		}
		s := &f.seq.guesses
		// guesses that were not computed tell as much: they cost nothing
		s.odds[f.by].add(right, wrong)
		s.drafted += f.draft
		s.accepted += min(right, f.draft)
		if f.by == byModel && f.draft == 0 {
			s.odds[byModel].forget()
		}
	}
	g.cost.observe(took.Seconds(), len(feeds), drafted)
}

// forget lets what is not tried any more be tried again some time.
func (o *odds) forget() { o.right, o.tried = o.right*0.99, o.tried*0.99 }

// drafted are the tokens guessed in a step, and those of them that were right.
func drafted(feeds []feed) (drafted, accepted uint64) {
	for i := range feeds {
		f := &feeds[i]
		drafted += uint64(f.draft)
		accepted += uint64(min(f.draft, common(f.guess, f.tokens)))
	}
	return drafted, accepted
}
