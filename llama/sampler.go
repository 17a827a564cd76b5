package llama

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Sampler chooses tokens (common_sampler: a llama_sampler chain and a grammar). One goroutine at a time may use it. It lives
// no longer than its model: afterwards only Close works.
type Sampler struct {
	model  *Model
	seed   uint32
	native native.Sampler

	// owner is who uses the sampler now, so that misuse by two goroutines is an error instead of corrupt memory.
	owner  atomic.Pointer[Context]
	closed bool // guarded by owner

	adaptive, sampled bool // AdaptiveTarget is set; a token was sampled and not yet accepted
}

// self marks calls that need no context.
var self = new(Context)

// NewSampler makes a sampler for a model's vocabulary.
//
// # Errors
//
//   - [ErrInvalidParam], [ErrInvalidToken] for a bias, [ErrInvalidGrammar], [ErrNoVocab], [ErrClosed]
//
// C: common_sampler_init
func NewSampler(m *Model, p SamplerParams) (*Sampler, error) {
	return newSampler(m, &p, p.native())
}

func newSampler(m *Model, p *SamplerParams, np *native.SamplerParams) (*Sampler, error) {
	if m == nil {
		return nil, ErrClosed
	}
	if err := m.vocab.acquire(); err != nil {
		return nil, err
	}
	defer m.release()
	if err := p.check(&m.vocab); err != nil {
		return nil, err
	}
	if err := m.vocab.checkGrammar(np.Grammar); err != nil {
		return nil, err
	}
	for np.Seed == RandomSeed {
		np.Seed = rand.Uint32()
	}
	ns, err := native.NewSampler(m.native, np)
	if err != nil {
		return nil, fromNative(err, ErrInvalidGrammar, "sampler")
	}
	return &Sampler{model: m, seed: np.Seed, native: ns, adaptive: p.AdaptiveTarget > 0}, nil
}

// hold takes the sampler for a call of c.
func (s *Sampler) hold(c *Context) error {
	if s == nil {
		return ErrClosed
	}
	if c != self && s.model != c.model {
		return errorf(ErrInvalidParam, "the sampler belongs to another model than the context")
	}
	if !s.owner.CompareAndSwap(nil, c) {
		return errorf(ErrInUse, "another goroutine or another row uses the sampler")
	}
	if s.closed {
		s.letGo()
		return ErrClosed
	}
	return nil
}

func (s *Sampler) letGo() { s.owner.Store(nil) }

// use takes sampler and model for a call without a context.
func (s *Sampler) use() (done func(), err error) {
	if err := s.hold(self); err != nil {
		return nil, err
	}
	if err := s.model.acquire(); err != nil {
		s.letGo()
		return nil, err
	}
	return func() {
		s.model.release()
		s.letGo()
	}, nil
}

// Sample chooses a token by the logits at a batch index of the last decode and does not accept it: call Accept with the
// token that is really used.
//
// # Errors
//
//   - [ErrNoLogits], [ErrGrammarRejected], [ErrInvalidParam] for a sampler of another model, [ErrInUse], [ErrClosed]
//
// C: common_sampler_sample
func (s *Sampler) Sample(c *Context, idx int) (Token, error) {
	if err := c.lock(); err != nil {
		return NullToken, err
	}
	defer c.mu.Unlock()
	if err := c.checkOutput(idx); err != nil {
		return NullToken, err
	}
	if err := s.hold(c); err != nil {
		return NullToken, err
	}
	defer s.letGo()
	t, err := c.native.Sample(s.native, int32(idx))
	if err != nil {
		return NullToken, fromNative(err, ErrFatal, "sample")
	}
	s.sampled = true
	return Token(t), nil
}

// Accept tells the sampler that a token was generated: penalties and grammar go on from it.
//
// # Errors
//
//   - [ErrGrammarRejected], [ErrInvalidToken], [ErrInUse], [ErrClosed]
//
// C: common_sampler_accept
func (s *Sampler) Accept(t Token) error { return s.accept([]Token{t}, true) }

// AcceptPrompt tells the sampler of tokens that were not generated: the penalties see them, the grammar does not.
//
// # Errors
//
//   - [ErrInvalidToken], [ErrInUse], [ErrClosed]
//
// C: common_sampler_accept
func (s *Sampler) AcceptPrompt(tokens []Token) error { return s.accept(tokens, false) }

func (s *Sampler) accept(tokens []Token, generated bool) error {
	done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	for _, t := range tokens {
		if err := s.model.vocab.check(t); err != nil {
			return err
		}
	}
	s.sampled = false
	return fromNative(native.Accept(s.native, tokens, generated), ErrGrammarRejected, "accept")
}

// Reset brings the sampler back to where it began: no tokens seen, the grammar at its root, the draw at its seed.
//
// # Errors
//
//   - [ErrInUse], [ErrClosed]
//
// C: common_sampler_reset
func (s *Sampler) Reset() error {
	done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	return fromNative(s.native.Reset(), ErrFatal, "reset the sampler")
}

// Clone copies the sampler with all it has seen. The copy must be closed too.
//
// # Errors
//
//   - [ErrInUse], [ErrClosed]
//   - [ErrInvalidParam] between Sample and Accept with AdaptiveTarget: llama.cpp copies only a half of what it has in hand
//
// C: common_sampler_clone
func (s *Sampler) Clone() (*Sampler, error) {
	done, err := s.use()
	if err != nil {
		return nil, err
	}
	defer done()
	if s.adaptive && s.sampled {
		return nil, errorf(ErrInvalidParam, "clone a sampler with AdaptiveTarget: accept the token that was sampled first")
	}
	ns, err := s.native.Clone()
	if err != nil {
		return nil, fromNative(err, ErrFatal, "clone the sampler")
	}
	return &Sampler{model: s.model, seed: s.seed, native: ns, adaptive: s.adaptive, sampled: s.sampled}, nil
}

// Working is the processor time that the call in flight has spent on one token because of the grammar; 0 where no call or no
// grammar is. Any goroutine may ask, but not while Close runs. llama.cpp cannot be stopped there: this tells when to give it up.
func (s *Sampler) Working() time.Duration {
	return time.Duration(s.native.Working() * float64(time.Second))
}

// Seed is the seed of the draw, also where RandomSeed was asked for.
func (s *Sampler) Seed() uint32 { return s.seed }

// Close frees the sampler; idempotent and nil-safe.
//
// # Errors
//
//   - [ErrInUse] while another goroutine uses it
func (s *Sampler) Close() error {
	if s == nil {
		return nil
	}
	if !s.owner.CompareAndSwap(nil, self) {
		return errorf(ErrInUse, "another goroutine uses the sampler")
	}
	defer s.owner.Store(nil)
	if !s.closed {
		s.closed = true
		s.native.Free()
	}
	return nil
}
