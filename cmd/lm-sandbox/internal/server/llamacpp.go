package server

import (
	"net/http"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// maxAnswer is the most tokens of one answer of POST /llama-cpp/.
const maxAnswer = 512

// textAnswer is the answer of POST /llama-cpp/. Error is always empty: what fails is
// answered with a status and the error format of all endpoints.
type textAnswer struct {
	Output string `json:"output"`
	Error  string `json:"error"`
}

// llamaCPP asks the model: as one user message where it has a chat template, else by
// continuing the text.
func (s *Server) llamaCPP(w http.ResponseWriter, r *http.Request) error {
	cmd, err := s.readCommand(w, r)
	if err != nil {
		return err
	}
	var text strings.Builder
	if s.engine.HasChatTemplate() {
		request := engine.ChatRequest{Messages: []llama.ChatMessage{{Role: "user", Content: cmd}}, MaxTokens: maxAnswer}
		for delta, err := range s.engine.Chat(r.Context(), request) {
			if err != nil {
				return err
			}
			text.WriteString(delta.Content)
		}
	} else {
		for delta, err := range s.engine.Generate(r.Context(), engine.Request{Prompt: cmd, MaxTokens: maxAnswer}) {
			if err != nil {
				return err
			}
			text.WriteString(delta.Text)
		}
	}
	return writeJSON(w, http.StatusOK, textAnswer{Output: text.String()})
}
