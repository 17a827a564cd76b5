package llama_test

import (
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
			for _, n := range []int{400, 4000, 100_000} {
				for _, open := range []string{"[", "{\"a\":", "[{\"a\":"} {
					_, err := parser.Parse("<tool_call>\n{\"name\":\"get_weather\",\"arguments\":"+strings.Repeat(open, n), true)
					fmt.Printf("%d: %.60v\n", n, err)
				}
			}
			fmt.Println("done")
			return nil
		})
	}
}

func TestNestedAnswerDoesNotCrash(t *testing.T) {
	out := runChild(t, "nested answer", time.Minute)
	require.Contains(t, out, "\ndone")
	require.Contains(t, out, "100000: llama: parse the answer: brackets are nested deeper")
}
