package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What llama-server answers in one way or another is answered by the real model.
func TestOddRequestsAreAnswered(t *testing.T) {
	e, name := realEngine(t)
	url := start(t, newServer(t, Options{Engine: e, ModelName: name})) + "/v1/chat/completions"
	for _, test := range []struct {
		fields, content, finish string // content "" = any
		tokens                  int    // 0 = any number
	}{
		{`"max_tokens":0`, "", "length", 1},
		{`"max_tokens":3.0`, "", "length", 3},
		{`"max_tokens":99999999999,"stop":["e"]`, "", "stop", 0},
		{`"ignore_eos":true,"json_schema":{"const":"a"}`, `"a"`, "stop", 0},
		{`"ignore_eos":true,"grammar":"root ::= \"ab\""`, "ab", "stop", 0},
	} {
		t.Run(test.fields, func(t *testing.T) {
			got := post(t, url, `{"messages":[{"role":"user","content":"Say hello."}],"temperature":0,`+test.fields+`}`)
			require.Equal(t, 200, got.status, got.body)
			var c completion
			require.NoError(t, json.Unmarshal([]byte(got.body), &c))
			require.Len(t, c.Choices, 1)
			assert.Equal(t, test.finish, *c.Choices[0].FinishReason)
			if test.content != "" {
				assert.Equal(t, test.content, strings.TrimSpace(*c.Choices[0].Message.Content))
			}
			if test.tokens > 0 {
				assert.Equal(t, test.tokens, c.Usage.CompletionTokens)
			}
		})
	}
	for fields, code := range map[string]string{
		`"grammar":"root ::= \"a\" [^\\x00-\\U0010ffff]"`:                                      "grammar_rejected",
		fmt.Sprintf(`"messages":[{"role":"user","content":%q}]`, strings.Repeat("#", 900<<10)): "context_length_exceeded",
	} {
		t.Run(code, func(t *testing.T) {
			got := post(t, url, `{"messages":[{"role":"user","content":"Say hello."}],`+fields+`}`)
			require.Equal(t, 400, got.status, got.body)
			assert.Equal(t, code, got.failure(t).Code)
		})
	}
}
