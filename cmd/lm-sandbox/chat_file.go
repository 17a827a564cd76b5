package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// mostConversation bounds a conversation's file, in bytes: far more than any context holds.
const mostConversation = 64 << 20

// conversation is the file of /save: messages in OpenAI's shape.
type conversation struct {
	Messages []conversationMessage `json:"messages"`
}

type conversationMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// saveConversation writes the file as a whole or not at all. It replaces nothing but
// an earlier conversation: a mistyped name must not cost a file.
func saveConversation(name string, messages []llama.ChatMessage) (err error) {
	if name == "" {
		return usage(errors.New("no file"), "/save FILE")
	}
	if _, err := loadConversation(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is not replaced: %w", err)
	}
	c := conversation{Messages: []conversationMessage{}}
	for _, m := range messages {
		c.Messages = append(c.Messages, conversationMessage{m.Role, m.Content})
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".chat-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(writeJSON(f, c), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// loadConversation reads a file of saveConversation, or one like it.
func loadConversation(name string) ([]llama.ChatMessage, error) {
	if name == "" {
		return nil, usage(errors.New("no file"), "/load FILE")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() || info.Size() > mostConversation {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", name, mostConversation)
	}
	var c conversation
	if err := json.NewDecoder(io.LimitReader(f, mostConversation)).Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: not a conversation: %w", name, err)
	}
	if c.Messages == nil {
		return nil, fmt.Errorf("%s: not a conversation: no \"messages\"", name)
	}
	messages := make([]llama.ChatMessage, 0, len(c.Messages))
	for i, m := range c.Messages {
		if m.Role != "user" && m.Role != "assistant" && (m.Role != "system" || i > 0) {
			return nil, fmt.Errorf("%s: message %d has the role %q: want user or assistant, or system for the first", name, i, m.Role)
		}
		messages = append(messages, llama.ChatMessage{Role: m.Role, Content: m.Content})
	}
	return messages, nil
}
