package engine

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

var errNotToolAnswer = errors.New("engine: the output is not an answer of the tool schema")

// toolParser reads the answers that the schema of withToolsInText enforces,
// also unfinished ones. The template's parser goes first: it takes reasoning
// out, and the fence that llama.cpp allows around JSON.
type toolParser struct{ template messageParser }

func (t toolParser) Parse(text string, partial bool) (llama.ChatMessage, error) {
	m, err := t.template.Parse(text, partial)
	if err != nil {
		return m, err
	}
	answer, err := parseToolAnswer(m.Content, partial)
	answer.ReasoningContent = m.ReasoningContent
	return answer, err
}

func (t toolParser) Close() error { return t.template.Close() }

// parseToolAnswer returns as much of the message as text decides. With partial
// false the text must be a whole answer.
func parseToolAnswer(text string, partial bool) (llama.ChatMessage, error) {
	p := jsonPrefix{text: text}
	m := llama.ChatMessage{Role: "assistant"}
	p.object(func(key string) {
		switch key {
		case "response":
			m.Content, _ = p.str()
		case "tool_calls":
			p.array(func() {
				if call, ok := p.toolCall(); ok {
					m.ToolCalls = append(m.ToolCalls, call)
				}
			})
		default:
			p.fail = true
		}
	})
	if p.fail || (!partial && p.end) {
		return m, errNotToolAnswer
	}
	return m, nil
}

func (p *jsonPrefix) toolCall() (call llama.ToolCall, ok bool) {
	p.object(func(key string) {
		switch key {
		case "name":
			// A name in pieces is of no use to anybody.
			if name, whole := p.str(); whole {
				call.Name, ok = name, true
			}
		case "arguments":
			call.Arguments = p.raw()
		default:
			p.fail = true
		}
	})
	return call, ok
}

// jsonPrefix walks through the beginning of a JSON text. end is set where the
// text ends too early, fail where it is not JSON of the expected kind; after
// either, every call returns at once.
type jsonPrefix struct {
	text string
	pos  int
	end  bool
	fail bool
}

func (p *jsonPrefix) over() bool { return p.end || p.fail }

// peek skips white space and returns the next byte.
func (p *jsonPrefix) peek() byte {
	for !p.over() {
		if p.pos == len(p.text) {
			p.end = true
			break
		}
		if c := p.text[p.pos]; !strings.ContainsRune(" \t\r\n", rune(c)) {
			return c
		}
		p.pos++
	}
	return 0
}

func (p *jsonPrefix) expect(c byte) {
	if got := p.peek(); !p.over() {
		if got != c {
			p.fail = true
			return
		}
		p.pos++
	}
}

// object calls member for each key, with the position before its value.
func (p *jsonPrefix) object(member func(key string)) {
	p.list('{', '}', func() {
		key, whole := p.str()
		if whole {
			p.expect(':')
		}
		if !p.over() {
			member(key)
		}
	})
}

func (p *jsonPrefix) array(element func()) { p.list('[', ']', element) }

func (p *jsonPrefix) list(begin, end byte, item func()) {
	p.expect(begin)
	if p.peek() == end {
		p.pos++
		return
	}
	for !p.over() {
		item()
		switch c := p.peek(); {
		case p.over():
			return
		case c == end:
			p.pos++
			return
		}
		p.expect(',')
	}
}

// str reads a string, or as much of it as is there.
func (p *jsonPrefix) str() (s string, whole bool) {
	p.expect('"')
	if p.over() {
		return "", false
	}
	from := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		switch p.text[p.pos] {
		case '"':
			s = p.unquote(p.text[from:p.pos])
			p.pos++
			return s, !p.fail
		case '\\':
			p.pos++
		}
	}
	p.pos, p.end = len(p.text), true
	return p.unquote(wholeEscapes(p.text[from:])), false
}

func (p *jsonPrefix) unquote(body string) (s string) {
	if err := json.Unmarshal([]byte(`"`+body+`"`), &s); err != nil {
		p.fail = true
	}
	return s
}

// wholeEscapes cuts what is unfinished at the end of the body of a string: a
// character, an escape, the first half of a surrogate pair.
func wholeEscapes(body string) string {
	for i := 0; i < len(body); {
		n := 1
		switch {
		case body[i] != '\\':
			if !utf8.FullRuneInString(body[i:]) {
				return body[:i]
			}
		case i+1 < len(body) && body[i+1] == 'u':
			n = 6
			if i+2 < len(body) && (body[i+2] == 'd' || body[i+2] == 'D') && (i+3 == len(body) || strings.IndexByte("89abAB", body[i+3]) >= 0) {
				n = 12
			}
		default:
			n = 2
		}
		if i+n > len(body) {
			return body[:i]
		}
		i += n
	}
	return body
}

// raw returns the text of a value, or as much of it as is there. It does not
// check more than the nesting.
func (p *jsonPrefix) raw() string {
	p.peek()
	from, depth := p.pos, 0
	for !p.over() {
		switch c := p.peek(); {
		case p.over():
		case c == '"':
			p.str()
		case c == '{' || c == '[':
			depth++
			p.pos++
		case c == '}' || c == ']' || c == ',':
			if depth == 0 {
				return p.text[from:p.pos]
			}
			if c != ',' {
				depth--
			}
			p.pos++
		default:
			p.pos++
		}
		if depth == 0 && !p.over() && strings.IndexByte(`}]"`, p.text[p.pos-1]) >= 0 {
			return p.text[from:p.pos]
		}
	}
	return p.text[from:p.pos]
}
