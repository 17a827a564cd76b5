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

	index int
	probs probs
}

func newChatRenderer(prompt *llama.ChatPrompt, toolsInText bool) (*chatRenderer, error) {
	parser, err := prompt.NewParser()
	if err != nil {
		return nil, err
	}
	c := &chatRenderer{parser: parser}
	if toolsInText {
		c.parser = toolParser{parser}
	}
	if prompt.Continues { // the caller has that part already
		if c.sent, err = parser.Parse("", true); err != nil {
			return nil, errors.Join(err, parser.Close())
		}
	}
	return c, nil
}

func (c *chatRenderer) add(d *ChatDelta, o *output) bool {
	d.Index = c.index
	d.Logprobs = c.probs.append(d.Logprobs, o.probs)
	more := len(o.probs) > 0
	if len(o.text) == 0 {
		return more
	}
	c.text.Write(o.text)
	m, err := c.parser.Parse(c.text.String(), true)
	return err == nil && c.send(d, m) || more
}

func (c *chatRenderer) result(d *ChatDelta, r *Result) { d.Index, d.Result = c.index, r }

// end parses the whole text as a finished message. Text that is none, because
// it was cut or because the model does not keep to its own format, is not lost:
// what can be read of it is sent, and where it was not cut and nothing can be
// read, the text as it is. So is white space alone, which llama.cpp's parsers
// drop before JSON (llama-server does the same).
func (c *chatRenderer) end(d *ChatDelta, r *Result) {
	c.result(d, r)
	text := c.text.String()
	cut := r.FinishReason != FinishStop
	m, err := c.parser.Parse(text, cut)
	whole := err == nil && !cut
	if err != nil && !cut {
		m, err = c.parser.Parse(text, true)
	}
	if err == nil {
		c.send(d, m)
	}
	switch {
	case whole && len(c.sent.ToolCalls) > 0:
		r.FinishReason = FinishToolCalls
	case c.sent.Content != "" || c.sent.ReasoningContent != "" || len(c.sent.ToolCalls) > 0:
	case err != nil, !cut && !whole, strings.TrimSpace(text) == "":
		d.Content += text
	}
}

func (c *chatRenderer) Close() error { return c.parser.Close() }

// send merges into d what m has more than was sent already, if anything.
func (c *chatRenderer) send(d *ChatDelta, m llama.ChatMessage) (more bool) {
	content, reasoning := grown(&c.sent.Content, m.Content), grown(&c.sent.ReasoningContent, m.ReasoningContent)
	d.Content += content
	d.Reasoning += reasoning
	more = content != "" || reasoning != ""
	for i, call := range m.ToolCalls {
		if i == len(c.sent.ToolCalls) {
			if call.Name == "" {
				break
			}
			if call.ID == "" {
				call.ID = newCallID()
			}
			c.sent.ToolCalls = append(c.sent.ToolCalls, llama.ToolCall{ID: call.ID, Name: call.Name})
			d.ToolCalls = append(d.ToolCalls, ToolCallDelta{Index: i, ID: call.ID, Name: call.Name})
			more = true
		}
		arguments := grown(&c.sent.ToolCalls[i].Arguments, call.Arguments)
		switch last := len(d.ToolCalls) - 1; {
		case arguments == "":
		case last >= 0 && d.ToolCalls[last].Index == i:
			d.ToolCalls[last].Arguments += arguments
		default:
			d.ToolCalls = append(d.ToolCalls, ToolCallDelta{Index: i, Arguments: arguments})
		}
		more = more || arguments != ""
	}
	return more
}

// newCallID has the only form that every template takes back: Mistral's want nine
// letters and digits.
func newCallID() string { return rand.Text()[:9] }

// grown returns what now has more than sent, and remembers it. Where a parser
// has taken back something that was sent, nothing is sent until it continues it.
func grown(sent *string, now string) string {
	more, ok := strings.CutPrefix(now, *sent)
	if !ok {
		return ""
	}
	*sent = now
	return more
}
