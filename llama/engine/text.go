package engine

import (
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// textStream turns tokens into text that can be shown.
type textStream struct {
	vocab   *llama.Vocab
	shown   map[llama.Token]bool // control tokens whose text is part of the output
	decoder llama.TextDecoder
	stops   stopMatcher
	piece   []byte
}

// push takes tokens up to the one that completes a stop string, n of them.
func (t *textStream) push(tokens []llama.Token) (text string, n int, stopped bool, err error) {
	var b strings.Builder
	for ; n < len(tokens) && !stopped && err == nil; n++ {
		t.piece, err = t.vocab.AppendPiece(t.piece[:0], tokens[n], t.shown[tokens[n]])
		var s string
		s, stopped = t.stops.push(t.decoder.Push(t.piece))
		b.WriteString(s)
	}
	return b.String(), n, stopped, err
}

// flush ends the text: what was held back is shown after all, unless the rest
// of an unfinished character completes a stop string.
func (t *textStream) flush() (text string, stopped bool) {
	text, stopped = t.stops.push(t.decoder.Flush())
	if !stopped {
		text += t.stops.flush()
	}
	return text, stopped
}
