package agent

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// shorten returns text for the model: plain (see [sandbox.Plain]), and of more than most
// bytes the beginning and the end, with a note of how many bytes are left out between
// them. It cuts at the ends of lines where they are near.
func shorten(text string, most int) (short string, leftOut int) {
	text = sandbox.Plain([]byte(text))
	if len(text) <= most {
		return text, 0
	}
	head, tail := beginning(text, most/2), ending(text, most-most/2)
	leftOut = len(text) - len(head) - len(tail)
	return fmt.Sprintf("%s\n[%d bytes left out]\n%s", strings.TrimSuffix(head, "\n"), leftOut, tail), leftOut
}

// nearLine is how much of a piece may go to make it whole lines: a quarter.
const nearLine = 4

// beginning is the first n bytes of text, or somewhat less.
func beginning(text string, n int) string {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	if i := strings.LastIndexByte(text[:n], '\n') + 1; i > 0 && n-i <= n/nearLine {
		n = i
	}
	return text[:n]
}

// ending is the last n bytes of text, or somewhat less.
func ending(text string, n int) string {
	from := len(text) - n
	for from < len(text) && !utf8.RuneStart(text[from]) {
		from++
	}
	if i := strings.IndexByte(text[from:], '\n') + 1; i > 0 && i <= n/nearLine {
		from += i
	}
	return text[from:]
}
