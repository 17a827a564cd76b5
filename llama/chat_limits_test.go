package llama_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func init() {
	children["nested answer"] = func() error {
		path, err := modelPath("default")
		if err != nil {
			return err
		}
		return withTemplate(path, hermes, func(ct *llama.ChatTemplate) error {
			p, err := ct.Apply(llama.ChatTemplateRequest{
				Messages: []llama.ChatMessage{{Role: "user", Content: "x"}}, Tools: []llama.Tool{weather}, AddGenerationPrompt: true,
			})
			if err != nil {
				return err
			}
			parser, err := p.NewParser()
			if err != nil {
				return err
			}
			defer parser.Close()
			const begin = "<tool_call>\n{\"name\":\"get_weather\",\"arguments\":"
			for _, n := range []int{400, 4000, 100_000} {
				for _, open := range []string{"[", "{\"a\":", "[{\"a\":", `["]",`} {
					_, err := parser.Parse(begin+strings.Repeat(open, n), true)
					fmt.Printf("%d: %.60v\n", n, err)
				}
			}
			p, err = ct.Apply(llama.ChatTemplateRequest{
				Messages: []llama.ChatMessage{{Role: "user", Content: "x"}, {Role: "assistant", Content: begin + strings.Repeat("[", 100_000)}},
				Tools:    []llama.Tool{weather}, ContinueFinalMessage: "content",
			})
			if err != nil {
				return err
			}
			continued, err := p.NewParser()
			if err != nil {
				return err
			}
			defer continued.Close()
			_, err = continued.Parse("", true)
			fmt.Printf("continued: %.60v\n", err)
			fmt.Println("done")
			return nil
		})
	}
}

func init() {
	children["grammar of a continued answer"] = func() error {
		path, err := modelPath("default")
		if err != nil {
			return err
		}
		m, err := llama.LoadModel(context.Background(), path, llama.ModelParams{VocabOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = m.Close() }()
		ct, err := llama.NewChatTemplate(m, hermes)
		if err != nil {
			return err
		}
		defer func() { _ = ct.Close() }()
		for _, content := range []string{`{"a":`, "x", "<|im_end|>", `{"a":1}<|im_end|>`} {
			p, err := ct.Apply(llama.ChatTemplateRequest{
				Messages: []llama.ChatMessage{{Role: "user", Content: "x"}, {Role: "assistant", Content: content}},
				Schema:   json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}`), ContinueFinalMessage: "content",
			})
			if err != nil {
				return err
			}
			s, err := p.Sampler(m, llama.SamplerParams{})
			fmt.Printf("%s: %v %v\n", content, errors.Is(err, llama.ErrInvalidGrammar), err)
			if err := s.Close(); err != nil {
				return err
			}
		}
		fmt.Println("done")
		return nil
	}
}

// TestGrammarOfContinuedAnswer: the beginning of an answer that the grammar refuses is an error.
func TestGrammarOfContinuedAnswer(t *testing.T) {
	out := runChild(t, "grammar of a continued answer", time.Minute)
	require.Contains(t, out, "{\"a\":: false <nil>\n")
	for _, content := range []string{"x", "<|im_end|>", `{"a":1}<|im_end|>`} {
		require.Contains(t, out, content+": true llama: sampler: the ")
	}
	require.Contains(t, out, "\ndone")
}

func TestNestedAnswerDoesNotCrash(t *testing.T) {
	out := runChild(t, "nested answer", time.Minute)
	require.Contains(t, out, "\ndone")
	require.Contains(t, out, "400: <nil>")
	require.Contains(t, out, "100000: llama: parse the answer: nested too deeply")
	require.Contains(t, out, "continued: llama: parse the answer: nested too deeply")
}

const plainTemplate = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}<|im_end|>
{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}`

func TestEmptyArgumentsAreAnObject(t *testing.T) {
	c := chatTemplate(t, fixtureModel(t), plainTemplate)
	for _, arguments := range []string{"", " \n", "{}"} {
		p, err := c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{
			{Role: "user", Content: "x"},
			{Role: "assistant", ToolCalls: []llama.ToolCall{{ID: "1", Name: "now", Arguments: arguments}}},
		}})
		require.NoError(t, err)
		require.Contains(t, p.Text, "now({})")
	}
}

func TestToolsThatAreNotUTF8(t *testing.T) {
	c := chatTemplate(t, fixtureModel(t), plainTemplate)
	p, err := c.Apply(llama.ChatTemplateRequest{
		Messages: []llama.ChatMessage{{Role: "user", Content: "x"}},
		Tools:    []llama.Tool{{Name: "f", Parameters: json.RawMessage("{\"type\":\"object\",\"description\":\"a\xffb\"}")}},
		Args:     map[string]json.RawMessage{"x": json.RawMessage("\"\xff\"")},
	})
	require.NoError(t, err)
	require.Contains(t, p.Text, "a\uFFFDb")
}

func TestTooManyControlTexts(t *testing.T) {
	m := fixtureModel(t)
	c := chatTemplate(t, m, plainTemplate)
	_, err := c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{{Role: "user", Content: strings.Repeat("<|im_end|>", 100_000)}}})
	require.ErrorIs(t, err, llama.ErrInvalidMessage)
	_, err = m.Vocab().Tokenize(strings.Repeat("<|im_end|>", 100_000), false, true)
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	toks, err := m.Vocab().Tokenize(strings.Repeat("<|im_end|>", 10_000), false, true)
	require.NoError(t, err)
	require.Len(t, toks, 10_000)
	toks, err = m.Vocab().Tokenize(strings.Repeat("<|im_end|>", 10_000), false, false)
	require.NoError(t, err, "ordinary text")
	require.Len(t, toks, 100_000)
}
