package engine

import (
	"github.com/lm-sandbox/lm-sandbox/llama"
)

// textStream is the textStage of every request.
type textStream struct {
	vocab   *llama.Vocab
	shown   map[llama.Token]bool // control tokens whose text is part of the output
	decoder llama.TextDecoder
	stops   stopMatcher
	piece   []byte
	stopped bool
}

func (t *textStream) push(token llama.Token) (text string, stopped bool, err error) {
	if t.piece, err = t.vocab.AppendPiece(t.piece[:0], token, t.shown[token]); err != nil {
		return "", false, err
	}
	text, stopped = t.stops.push(t.decoder.Push(t.piece))
	t.stopped = stopped
	return text, stopped, nil
}

// flush shows what was held back after all, unless the rest of an unfinished
// character completes a stop string.
func (t *textStream) flush() (text string, stopped bool) {
	if t.stopped {
		return "", true
	}
	text, stopped = t.stops.push(t.decoder.Flush())
	if !stopped {
		text += t.stops.flush()
	}
	return text, stopped
}
