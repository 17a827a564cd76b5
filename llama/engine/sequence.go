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
	limit       int            // the sequence ends when it has this many tokens
	limitReason FinishReason   // of ending so
	sampler     *llama.Sampler // used by the loop until retired
	out         *mailbox[[]llama.Token]
	retired     chan struct{}
	// newUnforced, where the end is forbidden, makes a sampler with the same
	// grammar that may end.
	newUnforced func() (*llama.Sampler, error)

	state    state
	tokens   []llama.Token // prompt, then output
	id       llama.SeqID   // while running
	past     int           // tokens that are in memory
	cells    int           // cells reserved
	inStep   bool          // takes part in the step in flight
	wish     FinishReason  // stop or cancelled: end after the step in flight
	reason   FinishReason  // why it ended; "" where err says it
	err      error
	computed int // tokens of the prompt computed; again after a preemption

	overtaken int // tokens of other prompts that were computed while this one waited

	submitted, started, first, last time.Time
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

// rank orders the prompts of a step, lowest first.
func (s *sequence) rank() int { return s.pending() - s.overtaken }

// most is the number of cells that the sequence can ever use: its last token
// is sampled but never computed.
func (s *sequence) most() int { return s.limit - 1 }

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
