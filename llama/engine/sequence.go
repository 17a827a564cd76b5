package engine

import (
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// sequence is one request from its submission to its retirement. Until retired
// is closed, the loop's mutex guards what changes; afterwards nothing does.
type sequence struct {
	// Set before the submission, then constant.
	prompt      int            // tokens of the prompt
	keep, full  int            // a sequence of more than full tokens shifts, the first keep stay; full 0: never
	pace        time.Duration  // the time of a step while this one generates; 0: any
	priority    int            // higher ones first
	caller      string         // whose quota and share it uses
	key         key            // only sequences of the same one share what is in memory
	limit       int            // the sequence ends when it has this many tokens
	limitReason FinishReason   // of ending so
	sampler     *llama.Sampler // the loop's, which closes it at the end
	text        textStage      // the loop's
	out         *mailbox[output]
	call        uint64        // of the worker process (Params.Isolated) that this is; 0 = none
	release     func()        // called by the loop at the end: the place of the request is free
	retired     chan struct{} // closed when everything is released
	// newUnforced, where the end is forbidden, makes a sampler with the same
	// grammar that may end.
	newUnforced func() (*llama.Sampler, error)
	nProbs      int             // for each output token
	process     LogitsProcessor // nil = none
	adapters    []llama.AdapterScale

	by        *caller // from the submission on
	state     state
	tokens    []llama.Token // prompt, then output, without those that were shifted out
	discarded int           // tokens that were shifted out
	anew      int           // of them, when it last arrived anew; see shift
	apart     bool          // shifted in memory: no other sequence can share that
	leaf      *node         // while running
	past      int           // tokens that are in memory
	ahead     int           // further ones in memory, of steps together that count no more: stop string, cancelled
	inStep    bool          // takes part in the step in flight
	cancelled bool          // end after the step in flight
	reason    FinishReason  // why it ended; "" where err says it
	err       error
	computed  int // tokens of the prompt computed; again after a preemption
	cached    int // tokens of the prompt that memory had, and that were never computed
	reached   int // tokens that have been computed or taken from memory once

	leader *sequence // computes tokens up to common that this one is going to share
	common int

	guesses guesses

	mark int // position at which its state is parked for others; behind past: none

	overtaken int // tokens of other prompts that were computed while this one waited

	arrived                         time.Time // submitted, or when it last arrived anew
	submitted, started, first, last time.Time
}

// output is what a sequence has produced since its consumer last looked.
type output struct {
	text   []byte
	tokens []llama.Token
	probs  []llama.TokenProb // nProbs for each token
}

// textStage turns tokens into text that can be shown.
type textStage interface {
	// push takes the next token and appends its text to dst; stopped says that a
	// stop string ended the text.
	push(dst []byte, token llama.Token) (text []byte, stopped bool, err error)
	// flush ends the text and appends what was held back.
	flush(dst []byte) (text []byte, stopped bool)
}

type state int

const (
	waiting state = iota
	running
	ended
)

// pending is the number of tokens that must be computed before the next one
// can be sampled.
func (s *sequence) pending() int { return len(s.tokens) - s.past }

// priorityTokens is how much shorter a prompt counts for each Priority.
const priorityTokens = 256

// rank orders the prompts of a step, lowest first.
func (s *sequence) rank() int { return s.pending() - s.overtaken - s.priority*priorityTokens }

// most is the number of cells that the sequence can ever use: its last token
// is sampled but never computed.
func (s *sequence) most() int {
	most := s.limit - s.discarded - 1
	if s.full > 0 {
		most = min(most, s.full)
	}
	return most
}

// length counts all tokens that the sequence has had.
func (s *sequence) length() int { return len(s.tokens) + s.discarded }

// took books that memory has the first n tokens.
func (s *sequence) took(n int) {
	s.cached += max(0, min(n, s.prompt)-s.reached)
	s.past, s.reached = n, max(s.reached, n)
}

// computes books that the next n tokens were computed, and returns how many of
// them belong to the prompt.
func (s *sequence) computes(n int) int {
	prompt := 0
	if s.discarded == 0 {
		prompt = max(0, min(n, s.prompt-s.past))
	}
	s.computed += prompt
	s.past += n
	s.reached = max(s.reached, s.past)
	return prompt
}

// timings is valid once the sequence is retired.
func (s *sequence) timings() Timings {
	var t Timings
	if s.started.IsZero() {
		return t
	}
	t.Queue = s.started.Sub(s.submitted)
	if !s.first.IsZero() {
		t.Prompt = s.first.Sub(s.started)
		t.Decode = s.last.Sub(s.first)
	}
	return t
}
