package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/chatoracle"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// minChatCases and minChatAnswers are those of the pinned tree: fewer mean that the oracle misses some.
const minChatCases, minChatAnswers = 629, 461

// Every rendering and every answer of llama.cpp's test-chat.cpp, by number: the prompt with all that belongs to it and the message
// are llama.cpp's.
func TestOracleChatCases(t *testing.T) {
	m := loadFixture(t, fixture.Llama(1).WithBytesOnly())
	templates := map[string]*llama.ChatTemplate{}
	cases, answers := 0, 0
	for number, c := range chatoracle.Cases(t) {
		if c.Media {
			continue
		}
		cases++
		if templates[c.Template] == nil {
			templates[c.Template] = chatTemplate(t, m, c.Template)
		}
		p, err := templates[c.Template].Apply(c.Request())
		if err != nil {
			t.Errorf("case %d: %v", number, err)
			continue
		}
		if want, got := c.Prompt.String(), chatoracle.PromptOf(p).String(); want != got {
			t.Errorf("case %d:\nwant %s\ngot  %s", number, want, got)
		}
		if c.Answer == nil {
			continue
		}
		answers++
		parser, err := p.NewParser()
		require.NoError(t, err)
		got, err := parser.Parse(c.Answer.Input, c.Answer.Partial)
		require.NoError(t, err, "case %d", number)
		require.Equal(t, c.Answer.Want(), got, "case %d: %q", number, c.Answer.Input)
		require.NoError(t, parser.Close())
	}
	t.Logf("%d renderings and %d answers of %d templates", cases, answers, len(templates))
	require.GreaterOrEqual(t, cases, minChatCases)
	require.GreaterOrEqual(t, answers, minChatAnswers)
}
