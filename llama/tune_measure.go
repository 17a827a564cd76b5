package llama

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

const (
	tunePrefill = 256 // tokens
	tuneDecode  = 24
	tuneChunk   = 32 // tokens whose logits are compared at once
	leastText   = 64
	mostText    = 2048
	closeCall   = 0.05 // a figure so near to its bound is measured again
)

// subject is a file that is measured.
type subject struct {
	name            string
	bytes           int64
	model           *Model
	ctx             *Context
	prefill, decode []float64 // seconds, one of each round
}

func openSubject(ctx context.Context, name, path string, threads int) (_ *subject, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("llama: tune: %w", err)
	}
	s := &subject{name: name, bytes: st.Size()}
	p := ContextParams{NCtx: mostText, NBatch: tunePrefill, NOutputsMax: tuneChunk, NThreads: threads}
	if s.model, err = LoadModel(ctx, path, ModelParams{NGPULayers: NoLayers, Context: p}); err != nil {
		return nil, err
	}
	if !s.model.CanGenerate() {
		return nil, errors.Join(errorf(ErrUnsupported, "tune: the model does not generate"), s.close())
	}
	if s.ctx, err = NewContext(s.model, p); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *subject) close() error { return errors.Join(s.ctx.Close(), s.model.Close()) }

// decodeAt decodes tokens of sequence 0 and leaves the logits of all or of the last one.
func (s *subject) decodeAt(toks []Token, pos int, all bool) error {
	b := NewBatch(len(toks))
	for i, t := range toks {
		if _, err := b.Add(t, Pos(pos+i), 0, all || i == len(toks)-1); err != nil {
			return err
		}
	}
	return s.ctx.Decode(b)
}

// measure takes the times of one round.
func (s *subject) measure(toks []Token) error {
	if err := s.ctx.Memory().Clear(); err != nil {
		return err
	}
	n := min(tunePrefill, len(toks)-tuneDecode)
	begin := time.Now()
	if err := s.decodeAt(toks[:n], 0, false); err != nil {
		return err
	}
	between := time.Now()
	for i := range tuneDecode {
		if err := s.decodeAt(toks[n+i:n+i+1], n+i, false); err != nil {
			return err
		}
	}
	s.prefill = append(s.prefill, between.Sub(begin).Seconds()/float64(n))
	s.decode = append(s.decode, time.Since(between).Seconds()/tuneDecode)
	return nil
}

func (s *subject) figures() TuneFigures {
	return TuneFigures{Bytes: s.bytes, Prefill: 1 / median(s.prefill), Decode: 1 / median(s.decode)}
}

// try makes and measures the candidates.
func (p *TuneParams) try(ctx context.Context, path, dir string, types []string, quantised bool) (_ *TuneResult, err error) {
	stage := func(format string, args ...any) {
		if p.Progress != nil {
			p.Progress(fmt.Sprintf(format, args...))
		}
	}
	var subjects []*subject
	defer func() {
		for _, s := range subjects {
			err = errors.Join(err, s.close())
		}
	}()
	open := func(name, path string) (*subject, error) {
		s, err := openSubject(ctx, name, path, p.NThreads)
		if err == nil {
			subjects = append(subjects, s)
		}
		return s, err
	}
	file, err := open("", path)
	if err != nil {
		return nil, err
	}
	toks, err := file.model.Vocab().Tokenize(p.Text, true, false)
	if err != nil {
		return nil, err
	}
	most := mostText
	if trained := file.model.NCtxTrain(); trained > 0 {
		most = min(most, trained)
	}
	if toks = toks[:min(len(toks), most)]; len(toks) < leastText {
		return nil, errorf(ErrInvalidParam, "tune: %d tokens are what the text has, or the model was trained for: want at least %d", len(toks), leastText)
	}
	r := &TuneResult{Path: path, Tokens: len(toks)}
	exact := file
	if quantised {
		stage("exact form")
		temp := tunedFile(dir, exactForm)
		if err := Quantize(ctx, path, temp, QuantizeParams{Type: "F16", NThreads: p.NThreads, AllowRequantize: true}); err != nil {
			return nil, err
		}
		if exact, err = openSubject(ctx, exactForm, temp, p.NThreads); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, exact.close()) }() // idempotent
		if r.KL, _, err = divergence(ctx, exact, file, toks); err != nil {
			return nil, err
		}
	}
	for _, t := range types {
		c := TuneCandidate{Type: t}
		stage("%s: quantising", t)
		temp := tunedFile(dir, t)
		if err := Quantize(ctx, path, temp, QuantizeParams{Type: t, NThreads: p.NThreads, AllowRequantize: true}); err != nil {
			return nil, err
		}
		if err := refine(ctx, path, temp); err != nil {
			return nil, err
		}
		s, err := open(t, temp)
		if err != nil {
			return nil, err
		}
		c.Bytes = s.bytes
		stage("%s: divergence", t)
		if c.KL, c.Agree, err = divergence(ctx, exact, s, toks); err != nil {
			return nil, err
		}
		if c.Loss = c.KL - r.KL; !(c.Loss <= p.MaxKL) {
			c.Verdict = fmt.Sprintf("the loss is above %g", p.MaxKL)
		}
		r.Candidates = append(r.Candidates, c)
	}
	if exact != file {
		if err := exact.close(); err != nil { // its memory
			return nil, err
		}
	}
	if r.Rounds, err = p.race(ctx, subjects, toks, stage); err != nil {
		return nil, err
	}
	r.File = file.figures()
	best := -1
	for i := range r.Candidates {
		c, s := &r.Candidates[i], subjects[i+1]
		c.TuneFigures = s.figures()
		c.PrefillGain, c.DecodeGain = gain(file.prefill, s.prefill), gain(file.decode, s.decode)
		switch {
		case c.Verdict != "":
		case c.DecodeGain < p.MinDecode:
			c.Verdict = fmt.Sprintf("generating is below %g of the file's speed", p.MinDecode)
		case c.PrefillGain < leastGain:
			c.Verdict = fmt.Sprintf("the prefill gains less than %g", leastGain)
		case best >= 0 && r.Candidates[best].PrefillGain >= c.PrefillGain:
			c.Verdict = "another one is faster"
		default:
			if best >= 0 {
				r.Candidates[best].Verdict = "another one is faster"
			}
			best, c.Verdict = i, "chosen"
		}
	}
	if best >= 0 {
		r.Type = r.Candidates[best].Type
		r.Path = tunedFile(dir, r.Type)
	}
	return r, nil
}

// race measures all by turns, each round in the other direction, until nothing is close to its bound.
func (p *TuneParams) race(ctx context.Context, subjects []*subject, toks []Token, stage func(string, ...any)) (rounds int, err error) {
	near := func(x, bound float64) bool { return math.Abs(x/bound-1) < closeCall }
	for round := 0; round <= 3*p.Rounds; round++ { // the first one warms up
		if round > p.Rounds {
			undecided := slices.ContainsFunc(subjects[1:], func(s *subject) bool {
				return near(gain(subjects[0].decode, s.decode), p.MinDecode) || near(gain(subjects[0].prefill, s.prefill), leastGain)
			})
			if !undecided {
				break
			}
		}
		stage("speed: round %d", round)
		for i := range subjects {
			if err := ctx.Err(); err != nil {
				return 0, fmt.Errorf("llama: tune: %w", err)
			}
			if round%2 == 1 {
				i = len(subjects) - 1 - i
			}
			if err := subjects[i].measure(toks); err != nil {
				return 0, err
			}
		}
		if round == 0 {
			for _, s := range subjects {
				s.prefill, s.decode = nil, nil
			}
		} else {
			rounds = round
		}
	}
	return rounds, nil
}

// gain is the median of the ratios of the rounds.
func gain(before, after []float64) float64 {
	ratios := make([]float64, len(before))
	for i := range before {
		ratios[i] = before[i] / after[i]
	}
	return median(ratios)
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// divergence is the mean KL divergence of b's predictions from a's over a text, and how often both expect the same token.
func divergence(ctx context.Context, a, b *subject, toks []Token) (kl, agree float64, err error) {
	for _, s := range []*subject{a, b} {
		if err := s.ctx.Memory().Clear(); err != nil {
			return 0, 0, err
		}
	}
	for at := 0; at < len(toks); at += tuneChunk {
		if err := ctx.Err(); err != nil {
			return 0, 0, fmt.Errorf("llama: tune: %w", err)
		}
		chunk := toks[at:min(at+tuneChunk, len(toks))]
		if err := errors.Join(a.decodeAt(chunk, at, true), b.decodeAt(chunk, at, true)); err != nil {
			return 0, 0, err
		}
		for i := range chunk {
			p, err := a.ctx.Logits(i)
			if err != nil {
				return 0, 0, err
			}
			q, err := b.ctx.Logits(i)
			if err != nil {
				return 0, 0, err
			}
			if len(p) != len(q) {
				return 0, 0, errorf(ErrModelFormat, "tune: the vocabularies differ")
			}
			kl += klDivergence(p, q)
			if likeliest(p) == likeliest(q) {
				agree++
			}
		}
	}
	n := float64(len(toks))
	return kl / n, agree / n, nil
}

// klDivergence is that of the softmax of q from the softmax of p, in nats.
func klDivergence(p, q []float32) float64 {
	lp, lq := logSum(p), logSum(q)
	sum := 0.0
	for i := range p {
		x := float64(p[i]) - lp
		sum += math.Exp(x) * (x - (float64(q[i]) - lq))
	}
	return max(0, sum)
}

// logSum is the logarithm of the sum of the exponentials.
func logSum(x []float32) float64 {
	most := float64(slices.Max(x))
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - most)
	}
	return most + math.Log(sum)
}

func likeliest(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
