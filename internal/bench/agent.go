package main

import (
	"context"
	"errors"
	"sync"
)

const (
	conversations = 8
	turns         = 6
	agentSystem   = 300 // tokens of the agent's system prompt, which all have
	resultTokens  = 100 // of one tool result
)

func (b *bench) agentSettings() []setting {
	return append(b.crowdSettings(), b.llamaServer("-np 8 -c 16384"))
}

// agent is what agents do: each answer gets the result of a tool, and the whole
// conversation is sent again.
func (b *bench) agent(ctx context.Context, row string) error {
	return b.loads(ctx, row, b.agentSettings(), func(ctx context.Context, v *server) (metrics, error) {
		each, errs := make([]crowd, conversations), make([]error, conversations)
		var all sync.WaitGroup
		for i := range conversations {
			all.Go(func() { each[i], errs[i] = converse(ctx, v.url, uint64(400+100*i)) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		var answers crowd
		for _, c := range each {
			answers = append(answers, c...)
		}
		m := metrics{}
		answers.measures(m, "agent")
		return m, nil
	})
}

// converse is one conversation.
func converse(ctx context.Context, url string, seed uint64) (crowd, error) {
	messages := []message{
		{Role: "system", Content: text(1, agentSystem)},
		{Role: "user", Content: text(seed, askTokens)},
	}
	var answers crowd
	for turn := range uint64(turns) {
		a, err := client{url: url, keep: true}.ask(ctx, newChat(outputTokens, messages...))
		if err != nil {
			return nil, err
		}
		answers = append(answers, a)
		said, err := a.text()
		if err != nil {
			return nil, err
		}
		messages = append(messages,
			message{Role: "assistant", Content: said},
			message{Role: "tool", Content: text(seed+turn+1, resultTokens), ToolCallID: "call"})
	}
	return answers, nil
}
