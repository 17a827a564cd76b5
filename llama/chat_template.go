package llama

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// ChatTemplate renders conversations into prompts by the model's jinja template, with llama.cpp's own engine
// (common_chat_templates). It is safe for use by many goroutines. It lives no longer than its model: afterwards only Close
// works.
type ChatTemplate struct {
	model    *Model
	specials *specialTexts
	source   string
	thinking bool
	builtin  bool

	mu     sync.RWMutex // held for reading while a request is rendered: llama.cpp's templates do not change by it
	native native.Chat
	closed bool
}

// NewChatTemplate compiles the model's own template, or override where it is not empty: jinja, or the name of a format that
// llama.cpp knows by itself, as in [BuiltinChatTemplates]. These formats, chatml aside, know neither tools nor thinking.
//
// A template is a program, and nothing stops it: a loop over range(1000000000) or a text that doubles in a loop runs for ever
// or until memory ends, and a macro that calls itself without an end overflows the stack, which ends the process. Templates
// of real models have such macros, for nested values, so they cannot be refused. The nesting of the values themselves is
// limited. So take a model, and an override, only from whom you would run a program.
//
// # Errors
//
//   - [ErrNoChatTemplate] when there is none
//   - [ErrChatTemplate] when it is too large, too deeply nested or wrong
//   - [ErrClosed], [ErrNoVocab], [*ErrInsufficientMemory]
//
// C: common_chat_templates_init
func NewChatTemplate(m *Model, override string) (*ChatTemplate, error) {
	if m == nil {
		return nil, ErrClosed
	}
	const key = "tokenizer.chat_template"
	sources := []string{override}
	if override == "" {
		sources = []string{m.meta[key], m.meta[key+".tool_use"]}
		if sources[0] == "" && sources[1] == "" {
			return nil, ErrNoChatTemplate
		}
	}
	if override != "" && !strings.Contains(override, "{") && !slices.Contains(BuiltinChatTemplates(), override) {
		return nil, errorf(ErrChatTemplate, "%.60q is neither a jinja template nor one of llama.cpp's: %s", override, strings.Join(BuiltinChatTemplates(), ", "))
	}
	for _, s := range sources {
		if err := checkTemplate(s); err != nil {
			return nil, err
		}
	}
	specials, err := m.vocab.specialTexts()
	if err != nil {
		return nil, err
	}
	if err := m.acquire(); err != nil {
		return nil, err
	}
	defer m.release()
	nc, err := native.NewChat(m.native, override)
	if err != nil {
		return nil, fromNative(err, ErrChatTemplate, "compile the chat template")
	}
	caps, err := nc.Caps()
	var c struct {
		Thinking bool   `json:"thinking"`
		Builtin  bool   `json:"builtin"`
		Source   string `json:"source"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(caps), &c)
	}
	if err != nil {
		nc.Free()
		return nil, errorf(ErrChatTemplate, "read the chat template's capabilities: %v", err)
	}
	return &ChatTemplate{model: m, specials: specials, native: nc, source: c.Source, thinking: c.Thinking, builtin: c.Builtin}, nil
}

// BuiltinChatTemplates are the names of the formats that llama.cpp knows without a template, sorted. "chatml" is what many
// models without a template of their own were trained on.
//
// C: llama_chat_builtin_templates
func BuiltinChatTemplates() []string { return slices.Clone(builtinTemplates()) }

var builtinTemplates = sync.OnceValue(func() []string {
	names, err := native.BuiltinTemplates()
	if err != nil { // of memory, or a build without cgo
		return nil
	}
	slices.Sort(names)
	return names
})

// Source is the template's text (common_chat_templates_source).
func (t *ChatTemplate) Source() string { return t.source }

// SupportsThinking says whether EnableThinking makes a difference (common_chat_templates_support_enable_thinking).
func (t *ChatTemplate) SupportsThinking() bool { return t.thinking }

// Close frees the template; idempotent and nil-safe.
func (t *ChatTemplate) Close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		t.native.Free()
	}
	return nil
}

// Apply renders a request. No text in it becomes a control token, whatever it says. Strings that are not valid UTF-8 get
// U+FFFD for the bytes in question.
//
// # Errors
//
//   - [ErrInvalidMessage] for messages and tools that cannot be, and for more than 8192 texts of control tokens in them
//   - [ErrInvalidSchema], [ErrInvalidGrammar], [ErrInvalidParam]; the limits are those of [SchemaToGrammar], for all tools
//     together. Patterns that llama.cpp cannot enforce are refused in Schema; in tools' parameters they stand for any text,
//     which llama.cpp says on stderr
//   - [ErrChatTemplate] when the template refuses them, for example roles in an order it does not know
//   - [ErrClosed]
//
// C: common_chat_templates_apply
func (t *ChatTemplate) Apply(r ChatTemplateRequest) (*ChatPrompt, error) {
	if t == nil {
		return nil, ErrClosed
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if t.builtin && r.ContinueFinalMessage != "" {
		return nil, errorf(ErrInvalidParam, "ContinueFinalMessage: the format %s of llama.cpp cannot continue a message: take chatml or a jinja template", t.source)
	}
	b, err := newBreaker(t.specials, r.texts()...)
	if err != nil {
		return nil, err
	}
	request, err := r.encode(b)
	if err != nil {
		return nil, err
	}
	if b.marked > maxMarked {
		return nil, errorf(ErrInvalidMessage, "the texts of control tokens occur %d times in the messages, at most %d times are allowed", b.marked, maxMarked)
	}
	result, err := t.apply(request)
	if err != nil {
		return nil, err
	}
	return newChatPrompt(t.model, b, &r, result)
}

func (t *ChatTemplate) apply(request []byte) (string, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return "", ErrClosed
	}
	if err := t.model.acquire(); err != nil {
		return "", err
	}
	defer t.model.release()
	result, err := t.native.Apply(string(request))
	return result, fromNative(err, ErrChatTemplate, "apply the chat template")
}
