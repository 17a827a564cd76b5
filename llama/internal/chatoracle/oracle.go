// Package chatoracle gives tests llama.cpp's own chat handling, which uses nothing of this module (bin/peers/chat-oracle): the
// cases of its tests/test-chat.cpp, and what it makes of a request with any template.
package chatoracle

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Prompt is common_chat_params.
type Prompt struct {
	Text             string    `json:"prompt"`
	Grammar          string    `json:"grammar"`
	GrammarLazy      bool      `json:"grammar_lazy"`
	GenerationPrompt string    `json:"generation_prompt"`
	Stops            []string  `json:"stops"`
	SupportsThinking bool      `json:"supports_thinking"`
	ThinkingStart    string    `json:"thinking_start"`
	ThinkingEnds     []string  `json:"thinking_ends"`
	Triggers         []Trigger `json:"triggers"`
}

// Trigger is common_grammar_trigger.
type Trigger struct {
	Type  llama.TriggerType `json:"type"`
	Value string            `json:"value"`
}

// PromptOf puts our prompt in the same form.
func PromptOf(p *llama.ChatPrompt) Prompt {
	out := Prompt{
		Text: p.Text, Grammar: p.Grammar, GrammarLazy: p.GrammarLazy, GenerationPrompt: p.GenerationPrompt, Stops: p.Stops,
		SupportsThinking: p.SupportsThinking, ThinkingStart: p.ThinkingStart, ThinkingEnds: p.ThinkingEnds,
	}
	for _, t := range p.Triggers {
		out.Triggers = append(out.Triggers, Trigger{t.Type, t.Value})
	}
	return out
}

// String is all of it in JSON, to compare.
func (p Prompt) String() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // always encodes
	return strings.ReplaceAll(b.String(), ":null", ":[]")
}

// Templates gives llama.cpp's models/templates by the names of the files.
func Templates(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), "third_party/llama.cpp/source/models/templates/*.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".jinja")] = string(source)
	}
	return out
}

// ask runs the oracle in llama.cpp's tree, where test-chat.cpp looks for the templates.
func ask(t testing.TB, mode string, stdin io.Reader) *json.Decoder {
	t.Helper()
	dir := root(t)
	path := filepath.Join(dir, "bin/peers/chat-oracle")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: run 'make peers'", err) // `make test` builds them first and lets no such skip pass
	}
	cmd := exec.CommandContext(t.Context(), path, mode)
	cmd.Dir = filepath.Join(dir, "third_party/llama.cpp/source")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("chat-oracle %s: %v\n%s", mode, err, errs.String())
	}
	return json.NewDecoder(&out)
}

// root is the directory of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
