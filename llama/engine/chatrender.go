package engine

import (
	"crypto/rand"
	"errors"
	"io"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// messageParser reads a message, finished or not, from the text of the model.
type messageParser interface {
	Parse(text string, partial bool) (llama.ChatMessage, error)
	io.Closer
}

// chatRenderer is the renderer of Chat: it parses all text so far and sends
// what the message has grown by.
type chatRenderer struct {
	parser messageParser
	text   strings.Builder
	sent   llama.ChatMessage
}

func (c *chatRenderer) add(d *ChatDelta, text string, _ []llama.Token) {
	if text == "" {
		return
	}
	c.text.WriteString(text)
	if m, err := c.parser.Parse(c.text.String(), true); err == nil {
		c.send(d, m)
	}
}

// end parses the whole text as a finished message. Text that is none, because
// it was cut or because the model does not keep to its own format, is not lost:
// what can be read is sent, and where that is nothing, the text as it is.
func (c *chatRenderer) end(d *ChatDelta, r *Result) {
	m, err := c.parser.Parse(c.text.String(), false)
	whole := err == nil && r.FinishReason == FinishStop
	if !whole {
		m, err = c.parser.Parse(c.text.String(), true)
	}
	if err == nil {
		c.send(d, m)
	}
	if c.sent.Content == "" && c.sent.ReasoningContent == "" && len(c.sent.ToolCalls) == 0 && !whole {
		d.Content += c.text.String()
	}
	if whole && len(c.sent.ToolCalls) > 0 {
		r.FinishReason = FinishToolCalls
	}
	d.Result = r
}

func (c *chatRenderer) Close() error { return c.parser.Close() }

// send merges into d what m has more than was sent already.
func (c *chatRenderer) send(d *ChatDelta, m llama.ChatMessage) {
	d.Content += grown(&c.sent.Content, m.Content)
	d.Reasoning += grown(&c.sent.ReasoningContent, m.ReasoningContent)
	for i, call := range m.ToolCalls {
		if i == len(c.sent.ToolCalls) {
			if call.Name == "" {
				return
			}
			if call.ID == "" {
				call.ID = "call_" + rand.Text()
			}
			c.sent.ToolCalls = append(c.sent.ToolCalls, llama.ToolCall{ID: call.ID, Name: call.Name})
			d.ToolCalls = append(d.ToolCalls, ToolCallDelta{Index: i, ID: call.ID, Name: call.Name})
		}
		arguments := grown(&c.sent.ToolCalls[i].Arguments, call.Arguments)
		switch last := len(d.ToolCalls) - 1; {
		case arguments == "":
		case last >= 0 && d.ToolCalls[last].Index == i:
			d.ToolCalls[last].Arguments += arguments
		default:
			d.ToolCalls = append(d.ToolCalls, ToolCallDelta{Index: i, Arguments: arguments})
		}
	}
}

// grown returns what now has more than sent, and remembers it. A parser that
// has changed its mind about what was sent cannot be followed: it is waited for.
func grown(sent *string, now string) string {
	more, ok := strings.CutPrefix(now, *sent)
	if !ok {
		return ""
	}
	*sent = now
	return more
}

func closeAll(err error, c io.Closer) error { return errors.Join(err, c.Close()) }
