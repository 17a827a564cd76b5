package llama

import (
	"encoding/json"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// ChatPrompt is a rendered conversation and all that is needed to generate and read the answer. It is plain data and safe for
// reading by many goroutines.
type ChatPrompt struct {
	// Text is the rendered prompt.
	Text string
	// Tokens is the prompt to decode. It is not what tokenising Text gives: texts of messages that read like control tokens
	// are ordinary text here.
	Tokens []Token

	// Grammar constrains the answer: to a schema, to tool calls, or the request's own. Empty = none.
	Grammar string
	// GrammarLazy says that Grammar holds from the first of Triggers on.
	GrammarLazy bool
	Triggers    []GrammarTrigger
	// PreservedTokens are control tokens that belong to the answer's format: their texts must reach the parser
	// (AppendPiece with special), all other control tokens' must not.
	PreservedTokens []Token
	// Stops are texts that end the answer, beside the tokens that do.
	Stops []string
	// GenerationPrompt is the end of Text that begins the answer.
	GenerationPrompt string

	// SupportsThinking says that the answer may begin with a part between ThinkingStart and one of ThinkingEnds.
	SupportsThinking bool
	ThinkingStart    string
	ThinkingEnds     []string

	// Continues says that the answer goes on with the last message: what the parser reads begins with that message's text, and
	// Parse("", true) gives it alone.
	Continues bool

	grammarKind int32
	parser      string
}

// TriggerType says what a [GrammarTrigger] compares (common_grammar_trigger_type).
type TriggerType int

// Trigger types.
const (
	TriggerToken       TriggerType = native.TriggerToken       // the token itself
	TriggerWord        TriggerType = native.TriggerWord        // a text anywhere in the answer
	TriggerPattern     TriggerType = native.TriggerPattern     // a regular expression anywhere
	TriggerPatternFull TriggerType = native.TriggerPatternFull // a regular expression for all of the answer
)

// GrammarTrigger starts a lazy grammar.
type GrammarTrigger struct {
	Type  TriggerType
	Value string
	Token Token
}

func newChatPrompt(m *Model, b *breaker, r *ChatTemplateRequest, result string) (*ChatPrompt, error) {
	var res struct {
		Prompt           string          `json:"prompt"`
		Grammar          string          `json:"grammar"`
		GrammarLazy      bool            `json:"grammar_lazy"`
		GenerationPrompt string          `json:"generation_prompt"`
		Preserved        []string        `json:"preserved_tokens"`
		Stops            []string        `json:"stops"`
		SupportsThinking bool            `json:"supports_thinking"`
		ThinkingStart    string          `json:"thinking_start"`
		ThinkingEnds     []string        `json:"thinking_ends"`
		Parser           json.RawMessage `json:"parser"`
		Triggers         []struct {
			Type  TriggerType `json:"type"`
			Value string      `json:"value"`
			Token Token       `json:"token"`
		} `json:"triggers"`
	}
	if err := json.Unmarshal([]byte(result), &res); err != nil {
		return nil, errorf(ErrChatTemplate, "read the rendered prompt: %v", err)
	}
	parts, err := b.segments(res.Prompt)
	if err != nil {
		return nil, err
	}
	p := &ChatPrompt{
		Grammar: b.unmark.Replace(res.Grammar), GrammarLazy: res.GrammarLazy, GenerationPrompt: b.unmark.Replace(res.GenerationPrompt),
		Stops: res.Stops, SupportsThinking: res.SupportsThinking, ThinkingStart: res.ThinkingStart, ThinkingEnds: res.ThinkingEnds,
		Continues:   r.ContinueFinalMessage != "",
		grammarKind: native.GrammarTools, parser: b.unmark.Replace(string(res.Parser)),
	}
	if err := checkGrammarText(p.Grammar); err != nil {
		return nil, errorf(ErrInvalidSchema, "the grammar of the schema or the tools: %s", strings.TrimPrefix(err.Error(), "llama: "))
	}
	var text strings.Builder
	for _, s := range parts {
		text.WriteString(s.text)
	}
	p.Text = text.String()
	if p.Tokens, err = m.vocab.tokenizeSegments(parts); err != nil {
		return nil, err
	}
	preserved := map[Token]bool{}
	for _, s := range res.Preserved {
		if t, ok := m.vocab.single(s); ok && !preserved[t] {
			preserved[t] = true
			p.PreservedTokens = append(p.PreservedTokens, t)
		}
	}
	for _, t := range res.Triggers {
		trigger := GrammarTrigger{Type: t.Type, Value: b.unmark.Replace(t.Value), Token: t.Token}
		if t.Type == TriggerWord {
			// a word that is one token is compared as a token, since its text does not reach the sampler
			if id, ok := m.vocab.single(trigger.Value); ok && preserved[id] {
				trigger.Type, trigger.Token = TriggerToken, id
			}
		}
		p.Triggers = append(p.Triggers, trigger)
	}
	if p.Grammar == "" && r.Grammar != "" {
		p.Grammar, p.GrammarLazy, p.grammarKind = r.Grammar, false, native.GrammarUser
	}
	return p, nil
}

// single gives the token of a text that is one token.
func (v *Vocab) single(text string) (Token, bool) {
	toks, err := v.Tokenize(text, false, true)
	if err != nil || len(toks) != 1 {
		return NullToken, false
	}
	return toks[0], true
}

// chatPromptData is a ChatPrompt with what it does not show.
type chatPromptData struct {
	Prompt  plainChatPrompt
	Grammar int32
	Parser  string
}

type plainChatPrompt ChatPrompt

// MarshalBinary makes it possible to render in one process and to generate in another one of the same version.
func (p *ChatPrompt) MarshalBinary() ([]byte, error) {
	return json.Marshal(chatPromptData{plainChatPrompt(*p), p.grammarKind, p.parser})
}

// UnmarshalBinary reads what MarshalBinary of the same version has written.
//
// # Errors
//
//   - [ErrInvalidParam] for anything else
func (p *ChatPrompt) UnmarshalBinary(data []byte) error {
	var d chatPromptData
	if err := json.Unmarshal(data, &d); err != nil {
		return errorf(ErrInvalidParam, "read a chat prompt: %v", err)
	}
	*p = ChatPrompt(d.Prompt)
	p.grammarKind, p.parser = d.Grammar, d.Parser
	return nil
}

// Sampler makes a sampler with base's parameters and the prompt's grammar. base's own Grammar must be empty where the prompt
// has one.
//
// # Errors
//
//   - as [NewSampler]
func (p *ChatPrompt) Sampler(m *Model, base SamplerParams) (*Sampler, error) {
	switch {
	case p.Grammar == "" && base.Reasoning == nil:
		return NewSampler(m, base)
	case p.Grammar != "" && base.Grammar != "":
		return nil, errorf(ErrInvalidParam, "the prompt has a grammar of its own: put yours into the request")
	case p.Grammar != "":
		base.Grammar = p.Grammar
	}
	np := base.native()
	if p.Grammar != "" {
		np.GrammarKind, np.GrammarLazy = p.grammarKind, p.GrammarLazy
	}
	np.GenerationPrompt = p.GenerationPrompt
	if np.ThinkingStart == "" {
		np.ThinkingStart, np.ThinkingEnds = p.ThinkingStart, p.ThinkingEnds
	}
	for _, t := range p.Triggers {
		if t.Type < TriggerToken || t.Type > TriggerPatternFull {
			return nil, errorf(ErrInvalidParam, "Triggers has the type %d, which is none of the constants", t.Type)
		}
		np.Triggers = append(np.Triggers, native.Trigger{Type: int32(t.Type), Value: t.Value, Token: int32(t.Token)})
	}
	for _, t := range p.PreservedTokens {
		np.Preserved = append(np.Preserved, int32(t))
	}
	return newSampler(m, &base, np)
}

// NewParser makes a parser for the answer to this prompt. It must be closed.
func (p *ChatPrompt) NewParser() (*ChatParser, error) {
	np, err := native.NewParser(p.parser)
	if err != nil {
		return nil, fromNative(err, ErrChatTemplate, "make the answer's parser")
	}
	return &ChatParser{native: np}, nil
}

// ChatParser reads answers: content, reasoning and tool calls (common_chat_parse). One goroutine at a time may use it.
type ChatParser struct {
	native native.Parser
	closed bool
}

// Parse reads text from the answer's first byte on: all of it, or with partial its beginning so far. Text that is not valid
// UTF-8 gets U+FFFD. Tool calls have IDs where the template's format has them.
//
// # Errors
//
//   - [ErrChatParse] when the text does not have the format or JSON nested deeper than some 500 levels; its caller may take the text as plain content then
//   - [ErrClosed]
func (p *ChatParser) Parse(text string, partial bool) (ChatMessage, error) {
	if p == nil || p.closed {
		return ChatMessage{}, ErrClosed
	}
	result, err := p.native.Parse(strings.ToValidUTF8(text, "\uFFFD"), partial)
	if err != nil {
		return ChatMessage{}, fromNative(err, ErrChatParse, "parse the answer")
	}
	var res struct {
		Content   string `json:"content"`
		Reasoning string `json:"reasoning_content"`
		ToolCalls []struct {
			ID        string `json:"id"`
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal([]byte(result), &res); err != nil {
		return ChatMessage{}, errorf(ErrChatParse, "read the parsed answer: %v", err)
	}
	m := ChatMessage{Role: "assistant", Content: res.Content, ReasoningContent: res.Reasoning}
	for _, c := range res.ToolCalls {
		m.ToolCalls = append(m.ToolCalls, ToolCall{ID: c.ID, Name: c.Name, Arguments: c.Arguments})
	}
	return m, nil
}

// Close frees the parser; idempotent and nil-safe.
func (p *ChatParser) Close() error {
	if p != nil && !p.closed {
		p.closed = true
		p.native.Free()
	}
	return nil
}
