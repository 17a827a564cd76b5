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
	piece   []byte // scratch of push, as text
	text    []byte
	stopped bool
}

func (t *textStream) push(dst []byte, token llama.Token) (text []byte, stopped bool, err error) {
	if t.piece, err = t.vocab.AppendPiece(t.piece[:0], token, t.shown[token]); err != nil {
		return dst, false, err
	}
	t.text = t.decoder.Append(t.text[:0], t.piece)
	text, t.stopped = t.stops.append(dst, t.text)
	return text, t.stopped, nil
}

// flush shows what was held back after all, unless the rest of an unfinished
// character completes a stop string.
func (t *textStream) flush(dst []byte) (text []byte, stopped bool) {
	if t.stopped {
		return dst, true
	}
	if dst, stopped = t.stops.append(dst, []byte(t.decoder.Flush())); !stopped {
		dst = t.stops.flush(dst)
	}
	return dst, stopped
}
