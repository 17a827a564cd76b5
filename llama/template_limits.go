package llama

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxTemplate is the size of the largest chat template that is compiled.
	maxTemplate = 128 << 10
	// maxTemplateTag is how many words and signs one {{ }} or {% %} may have: llama.cpp's jinja recurses along chains of
	// operators, too.
	maxTemplateTag = 2000
)

// checkTemplate refuses chat templates that would overflow the stack of llama.cpp's jinja parser or interpreter. What a
// template does when it runs, such as a loop without an end, it cannot see.
func checkTemplate(source string) error {
	if len(source) > maxTemplate {
		return errorf(ErrChatTemplate, "the chat template has %d bytes, at most %d are allowed", len(source), maxTemplate)
	}
	var blocks []int // per open block: its branches
	depth := 0       // of blocks, each further branch counting as one
	for {
		i := strings.IndexByte(source, '{')
		if i < 0 || i+1 == len(source) {
			return nil
		}
		source = source[i+1:]
		switch source[0] {
		case '#':
			_, source, _ = strings.Cut(source, "#}")
		case '{', '%':
			tag, err := scanTag(source[1:], map[byte]string{'{': "}}", '%': "%}"}[source[0]])
			if err != nil {
				return errorf(ErrChatTemplate, "the chat template has %v", err)
			}
			word := ""
			if source[0] == '%' {
				word = tag.word
			}
			source = source[1+tag.length:]
			switch {
			case slices.Contains([]string{"if", "for", "macro", "call", "filter", "generation"}, word) || word == "set" && !tag.assigns:
				blocks = append(blocks, 1)
				depth++
			case word == "elif" && len(blocks) > 0:
				blocks[len(blocks)-1]++
				depth++
			case strings.HasPrefix(word, "end") && len(blocks) > 0:
				depth -= blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
			}
			if depth > maxNesting {
				return errorf(ErrChatTemplate, "the chat template has blocks nested deeper than %d levels", maxNesting)
			}
		}
	}
}

// templateTag is the inside of one {{ }} or {% %}.
type templateTag struct {
	word    string // the first
	assigns bool   // has a = of its own
	length  int
}

func scanTag(text, end string) (tag templateTag, err error) {
	depth, tokens := 0, 0
	for i := 0; i < len(text); {
		c := text[i]
		begin := i
		switch {
		case depth == 0 && strings.HasPrefix(text[i:], end):
			tag.length = i + len(end)
			return tag, nil
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
			continue
		case c == '"' || c == '\'':
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		case isTemplateWord(c):
			for i < len(text) && isTemplateWord(text[i]) {
				i++
			}
			if tag.word == "" {
				tag.word = text[begin:i]
			}
		default:
			switch c {
			case '(', '[', '{':
				depth++
			case ')', ']', '}':
				depth = max(depth-1, 0)
			case '=':
				tag.assigns = tag.assigns || depth == 0
			}
			i++
		}
		if tokens++; tokens > maxTemplateTag {
			return tag, fmt.Errorf("an expression of more than %d words and signs", maxTemplateTag)
		}
		if depth > maxNesting {
			return tag, fmt.Errorf("brackets nested deeper than %d levels", maxNesting)
		}
	}
	tag.length = len(text)
	return tag, nil
}

func isTemplateWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c >= 0x80
}
