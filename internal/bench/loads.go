package main

import "context"

const (
	clients      = 16
	outputTokens = 32
	systemTokens = 600
	askTokens    = 30
)

// questions are one for each client; systems are their seeds, of which a single one
// is everybody's.
func questions(seed uint64, systems ...uint64) []chat {
	chats := make([]chat, clients)
	for i := range chats {
		system := systems[i%len(systems)]
		chats[i] = newChat(outputTokens,
			message{Role: "system", Content: text(system, systemTokens)},
			message{Role: "user", Content: text(seed+uint64(i), askTokens)})
	}
	return chats
}

// shared is a system prompt that all have: a first time, the same requests again,
// and new questions behind it.
func (b *bench) shared(ctx context.Context, row string) error {
	return b.loads(ctx, row, b.crowdSettings(), func(ctx context.Context, v *server) (metrics, error) {
		m := metrics{}
		for _, phase := range []struct {
			name string
			seed uint64
		}{{"cold", 1000}, {"again", 1000}, {"new", 2000}} {
			answers, err := client{url: v.url}.askAll(ctx, questions(phase.seed, 1))
			if err != nil {
				return nil, err
			}
			answers.measures(m, phase.name)
		}
		return m, nil
	})
}

// different are system prompts that have nothing in common.
func (b *bench) different(ctx context.Context, row string) error {
	systems := make([]uint64, clients)
	for i := range systems {
		systems[i] = uint64(100 + i)
	}
	return b.loads(ctx, row, b.crowdSettings(), func(ctx context.Context, v *server) (metrics, error) {
		m := metrics{}
		answers, err := client{url: v.url}.askAll(ctx, questions(3000, systems...))
		if err != nil {
			return nil, err
		}
		answers.measures(m, "cold")
		return m, nil
	})
}
