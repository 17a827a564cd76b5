package llama_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/chatoracle"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// A family is one of llama.cpp's models/templates with a vocabulary in which its special texts are control tokens.
type family struct {
	name, source, path string
	specials           []string
	model              *llama.Model
	template           *llama.ChatTemplate
}

func families(t *testing.T) []family {
	t.Helper()
	sources := chatoracle.Templates(t)
	var all []family
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f := family{name: name, source: sources[name], specials: chatoracle.Specials(sources[name])}
		f.path = fixture.Llama(1).WithControls(f.specials...).Write(t)
		m, err := llama.LoadModel(t.Context(), f.path, llama.ModelParams{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, m.Close()) })
		f.model, f.template = m, chatTemplate(t, m, f.source)
		all = append(all, f)
	}
	require.GreaterOrEqual(t, len(all), 70)
	return all
}

// conversations has every part that a request can have.
func conversations() map[string]llama.ChatTemplateRequest {
	weather := llama.Tool{Name: "get_weather", Description: "The weather <now>.", Parameters: json.RawMessage(
		`{"type":"object","properties":{"city":{"type":"string","description":"a city"},"unit":{"enum":["C","F"]}},"required":["city"]}`)}
	clock := llama.Tool{Name: "now", Description: "The time.", Parameters: json.RawMessage(`{"type":"object","properties":{}}`)}
	system := llama.ChatMessage{Role: "system", Content: "Be terse & exact."}
	user := llama.ChatMessage{Role: "user", Content: "Is it <warm> in Paris? {\"a\": 'b'}\n"}
	answer := llama.ChatMessage{Role: "assistant", Content: "Yes.", ReasoningContent: "It is summer."}
	call := llama.ChatMessage{Role: "assistant", ToolCalls: []llama.ToolCall{{ID: "abcdef123", Name: "get_weather", Arguments: `{"city": "Paris", "unit": "C"}`}}}
	result := llama.ChatMessage{Role: "tool", Name: "get_weather", ToolCallID: "abcdef123", Content: `{"t": 24}`}
	two := llama.ChatMessage{Role: "assistant", ToolCalls: append(slices.Clone(call.ToolCalls), llama.ToolCall{ID: "abcdef124", Name: "now", Arguments: `{}`})}
	later := llama.ChatMessage{Role: "tool", Name: "now", ToolCallID: "abcdef124", Content: "noon"}
	thanks := llama.ChatMessage{Role: "user", Content: "Thank you 😀"}
	both := []llama.Tool{weather, clock}
	return map[string]llama.ChatTemplateRequest{
		"user":           {Messages: []llama.ChatMessage{user}, AddGenerationPrompt: true},
		"no prompt":      {Messages: []llama.ChatMessage{user}},
		"system":         {Messages: []llama.ChatMessage{system, user}, AddGenerationPrompt: true},
		"turns":          {Messages: []llama.ChatMessage{system, user, answer, thanks}, AddGenerationPrompt: true},
		"prefill":        {Messages: []llama.ChatMessage{user, {Role: "assistant", Content: "It is"}}, ContinueFinalMessage: "auto"},
		"prefilled mind": {Messages: []llama.ChatMessage{user, {Role: "assistant", ReasoningContent: "Summer"}}, ContinueFinalMessage: "auto"},
		"tools":          {Messages: []llama.ChatMessage{user}, Tools: both, AddGenerationPrompt: true},
		"must call":      {Messages: []llama.ChatMessage{user}, Tools: both, ToolChoice: "required", ParallelToolCalls: true, AddGenerationPrompt: true},
		"no call":        {Messages: []llama.ChatMessage{user}, Tools: both, ToolChoice: "none", AddGenerationPrompt: true},
		"result":         {Messages: []llama.ChatMessage{system, user, call, result}, Tools: both, AddGenerationPrompt: true},
		"parallel": {Messages: []llama.ChatMessage{user, two, result, later, answer, thanks}, Tools: both, ParallelToolCalls: true,
			AddGenerationPrompt: true},
	}
}

// For every template and every conversation: text, grammar, triggers, stops and tokens are llama.cpp's.
func TestOracleRender(t *testing.T) {
	on, off := true, false
	compareRenderings(t, func(conversation string) []*bool {
		if conversation == "result" {
			return []*bool{nil, &on, &off}
		}
		return []*bool{nil}
	})
}

// compareRenderings renders each conversation with EnableThinking as told.
func compareRenderings(t *testing.T, thinking func(conversation string) []*bool) {
	type question struct {
		family *family
		name   string
	}
	var questions []question
	var requests []chatoracle.Request
	all := families(t)
	for i := range all {
		for name, r := range conversations() {
			for _, r.EnableThinking = range thinking(name) {
				r.Now = time.Unix(1_700_000_000, 0)
				questions = append(questions, question{&all[i], name})
				requests = append(requests, chatoracle.Request{Model: all[i].path, Template: all[i].source, Request: r})
			}
		}
	}
	refused := 0
	for i, want := range chatoracle.Render(t, requests) {
		q := questions[i]
		p, err := q.family.template.Apply(requests[i].Request)
		if want.Error != "" {
			refused++
			require.ErrorIs(t, err, llama.ErrChatTemplate, "%s, %s: llama.cpp says %s", q.family.name, q.name, want.Error)
			continue
		}
		if err != nil {
			t.Errorf("%s, %s: %v", q.family.name, q.name, err)
			continue
		}
		got := chatoracle.PromptOf(p)
		for j, tr := range got.Triggers {
			if tr.Type == llama.TriggerToken { // a word that is one token
				got.Triggers[j].Type = llama.TriggerWord
			}
		}
		if got.String() != want.Prompt.String() {
			t.Errorf("%s, %s:\nwant %s\ngot  %s", q.family.name, q.name, want.Prompt, got)
		}
		if !slices.Equal(want.Tokens, p.Tokens) {
			t.Errorf("%s, %s: tokens differ for %q:\nwant %v\ngot  %v", q.family.name, q.name, p.Text, want.Tokens, p.Tokens)
		}
	}
	t.Logf("%d renderings of %d templates, %d of them refused by the template", len(requests), len(all), refused)
	require.Less(t, refused, len(requests)/50)
}

// places are all parts of a request that others than the caller's own program may have written.
func places(text string) map[string]llama.ChatTemplateRequest {
	quoted, _ := json.Marshal(text) // a string always encodes
	user := llama.ChatMessage{Role: "user", Content: "hi"}
	tools := func(description, parameters string) []llama.Tool {
		return []llama.Tool{{Name: "f", Description: description, Parameters: json.RawMessage(parameters)}}
	}
	call := func(id, arguments string) []llama.ChatMessage {
		return []llama.ChatMessage{
			user,
			{Role: "assistant", ToolCalls: []llama.ToolCall{{ID: id, Name: "f", Arguments: arguments}}},
			{Role: "tool", Name: "f", ToolCallID: "abcdef123", Content: "ok"},
		}
	}
	withTools := func(messages []llama.ChatMessage) llama.ChatTemplateRequest {
		return llama.ChatTemplateRequest{Messages: messages, Tools: tools("d", `{"type":"object","properties":{"a":{"type":"string"}}}`)}
	}
	result := call("abcdef123", `{}`)
	result[2].Content = text
	resultID, resultName := call("abcdef123", `{}`), call("abcdef123", `{}`)
	resultID[2].ToolCallID, resultName[2].Name = text, text
	named := llama.ChatMessage{Role: "user", Content: "hi", Name: text}
	keys := gluedKeys(text, "description", "enum", "required", "type")
	all := map[string]llama.ChatTemplateRequest{
		"system":         {Messages: []llama.ChatMessage{{Role: "system", Content: text}, user}},
		"developer":      {Messages: []llama.ChatMessage{{Role: "developer", Content: text}, user}},
		"user":           {Messages: []llama.ChatMessage{{Role: "user", Content: text}}},
		"user's name":    {Messages: []llama.ChatMessage{named}},
		"assistant":      {Messages: []llama.ChatMessage{user, {Role: "assistant", Content: text}, user}},
		"prefill":        {Messages: []llama.ChatMessage{user, {Role: "assistant", Content: text}}, ContinueFinalMessage: "auto"},
		"prefilled mind": {Messages: []llama.ChatMessage{user, {Role: "assistant", ReasoningContent: text}}, ContinueFinalMessage: "auto"},
		"reasoning":      {Messages: []llama.ChatMessage{user, {Role: "assistant", Content: "x", ReasoningContent: text}, user}},
		"late reasoning": withTools(append([]llama.ChatMessage{user, {Role: "assistant", ReasoningContent: text, ToolCalls: call("abcdef123", "{}")[1].ToolCalls}}, call("", "")[2])),
		"call's ID":      withTools(call(text, `{}`)),
		"argument":       withTools(call("abcdef123", `{"a":`+string(quoted)+`}`)),
		"glued key":      withTools(call("abcdef123", gluedKeys(text))),
		"schema's key":   {Messages: []llama.ChatMessage{user}, Tools: tools("d", `{"type":"object","properties":{"a":`+keys+`},"x-keys":`+keys+`,`+keys[1:])},
		"argument's key": withTools(call("abcdef123", `{`+string(quoted)+`:"x"}`)),
		"nested":         withTools(call("abcdef123", `{"a":[{"b":[`+string(quoted)+`]}]}`)),
		"result":         withTools(result),
		"result's ID":    withTools(resultID),
		"result's name":  withTools(resultName),
		"description":    {Messages: []llama.ChatMessage{user}, Tools: tools(text, `{"type":"object","properties":{}}`)},
		"schema": {Messages: []llama.ChatMessage{user}, Tools: tools("d",
			`{"type":"object","properties":{"a":{"type":"string","description":`+string(quoted)+`}}}`)},
		"enum":     {Messages: []llama.ChatMessage{user}, Tools: tools("d", `{"type":"object","properties":{"a":{"type":"string","enum":[`+string(quoted)+`]}}}`)},
		"property": {Messages: []llama.ChatMessage{user}, Tools: tools("d", `{"type":"object","properties":{`+string(quoted)+`:{"type":"string"}}}`)},
	}
	for _, name := range []string{"custom_instructions", "builtin_tools", "documents", "model_identity", "reasoning_effort", "date_string"} {
		all["variable "+name] = llama.ChatTemplateRequest{Messages: []llama.ChatMessage{user}, Args: map[string]json.RawMessage{name: quoted}}
	}
	for name, r := range all {
		r.AddGenerationPrompt = r.ContinueFinalMessage == ""
		r.Now = time.Unix(1_700_000_000, 0)
		all[name] = r
	}
	return all
}

// gluedKeys are arguments named like the special texts without their first and last characters, which some templates add; for a
// harmless text as many others. Keywords of schemas are left out where a template has tags of their names.
func gluedKeys(text string, except ...string) string {
	arguments := map[string]string{}
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("<>[]() ", r) }) {
		if slices.Contains(except, s) {
			continue
		}
		if !strings.ContainsAny(text, "<[") {
			s = "harmless " + s
		}
		arguments[s] = "x"
	}
	raw, _ := json.Marshal(arguments) // strings always encode
	return string(raw)
}

// everywhere has text in many places at once, for a quick answer.
func everywhere(text string) map[string]llama.ChatTemplateRequest {
	all := places(text)
	tools := all["argument"].Tools
	mix := func(names ...string) (r llama.ChatTemplateRequest) {
		for _, name := range names {
			r.Messages = append(r.Messages, all[name].Messages...)
		}
		r.Tools, r.AddGenerationPrompt, r.Now = tools, true, time.Unix(1_700_000_000, 0)
		return r
	}
	return map[string]llama.ChatTemplateRequest{
		"messages": mix("system", "argument", "reasoning", "result"),
		"tools":    all["schema"],
		"glued":    all["glued key"],
		"keys":     all["schema's key"],
		"prefill":  all["prefill"],
	}
}

// The texts of all control tokens of every family, whole, nested and next to each other, do not become one, whoever wrote them.
// What the template itself writes is the same as with a harmless text.
func TestControlTokensOfEveryFamily(t *testing.T) {
	attackFamilies(t, everywhere)
}

func attackFamilies(t *testing.T, places func(text string) map[string]llama.ChatTemplateRequest) {
	checked, refused := 0, map[string]int{}
	for _, f := range families(t) {
		for _, evil := range evilTexts(append(f.specials, "<s>", "</s>", "<unk>", "<0x41>")) {
			harmless := strings.NewReplacer("<", "(", ">", ")", "[", "(", "]", ")", "｜", "!", "|", "!").Replace(evil)
			attacks, bases := places("a "+evil+" b"), places("a "+harmless+" b")
			for _, place := range slices.Sorted(maps.Keys(attacks)) {
				base, err := f.template.Apply(bases[place])
				if err != nil {
					refused[place]++ // the template takes no such part
					continue
				}
				p, err := f.template.Apply(attacks[place])
				if err != nil {
					t.Errorf("%s, %s: %v", f.name, place, err)
					continue
				}
				checked++
				v := f.model.Vocab()
				if want, got := controls(v, base.Tokens), controls(v, p.Tokens); !slices.Equal(want, got) {
					t.Errorf("%s, %s: the template writes %d control tokens, the prompt has %d:\n%q", f.name, place, len(want), len(got), p.Text)
				}
			}
		}
	}
	t.Logf("%d pairs of family and place; refused: %v", checked, refused)
	require.Greater(t, checked, 100)
}

// evilTexts have the texts of control tokens whole, cut and inside each other; a property may have them for a name.
func evilTexts(specials []string) (texts []string) {
	const most = 400 // and the grammar of a longer one would be too large for some families
	var text strings.Builder
	for _, s := range specials {
		piece := s + s + "y" + s[:len(s)/2] + s + s[len(s)/2:]
		if text.Len() > 0 && text.Len()+len(piece) > most {
			texts = append(texts, text.String())
			text.Reset()
		}
		text.WriteString(piece)
	}
	return append(texts, text.String())
}
