package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// maxUpstreamAnswer bounds the memory that one answer of the upstream takes.
const maxUpstreamAnswer = 8 << 20

// upstream is an OpenAI-compatible server that POST /ollama/ passes messages to.
type upstream struct {
	chatURL   string
	modelsURL string // "" where it cannot be told from chatURL
	model     string // "" = the first of modelsURL
	timeout   time.Duration
	client    *http.Client
}

func newUpstream(chatURL, model string, timeout time.Duration) (*upstream, error) {
	if chatURL == "" {
		chatURL = DefaultOllamaURL
	}
	u, err := url.Parse(chatURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &OptionError{"OllamaURL", fmt.Sprintf("%q is no http or https URL such as %s", chatURL, DefaultOllamaURL)}
	}
	up := &upstream{
		chatURL: chatURL,
		model:   model,
		timeout: orDefault(timeout, 2*time.Minute),
		client: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// A redirect would resend the message to a place nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if path, ok := strings.CutSuffix(strings.TrimSuffix(u.Path, "/"), "/chat/completions"); ok {
		u.Path, u.RawQuery = path+"/models", ""
		up.modelsURL = u.String()
	}
	return up, nil
}

func (u *upstream) close() { u.client.CloseIdleConnections() }

// ollama answers POST /ollama/ with the JSON of the upstream as it is.
func (s *Server) ollama(w http.ResponseWriter, r *http.Request) error {
	cmd, err := s.readCommand(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.upstream.timeout)
	defer cancel()
	answer, err := s.upstream.ask(ctx, cmd)
	if err != nil {
		return s.upstream.failure(r.Context(), err)
	}
	return writeBody(w, http.StatusOK, answer)
}

type upstreamMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (u *upstream) ask(ctx context.Context, text string) ([]byte, error) {
	model := u.model
	if model == "" {
		var err error
		if model, err = u.firstModel(ctx); err != nil {
			return nil, err
		}
	}
	body, err := marshal(struct {
		Model    string            `json:"model"`
		Messages []upstreamMessage `json:"messages"`
		Stream   bool              `json:"stream"`
	}{Model: model, Messages: []upstreamMessage{{"user", text}}})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.chatURL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return u.fetch(request)
}

func (u *upstream) firstModel(ctx context.Context) (string, error) {
	if u.modelsURL == "" {
		return "", errors.New("its URL does not end in /chat/completions, so its models cannot be listed: set $OLLAMA_MODEL")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.modelsURL, nil)
	if err != nil {
		return "", err
	}
	body, err := u.fetch(request)
	if err != nil {
		return "", err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("its list of models cannot be read: %w", err)
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", errors.New("it lists no model: load one there, or set $OLLAMA_MODEL")
	}
	return list.Data[0].ID, nil
}

// fetch returns the JSON that the upstream answers with.
func (u *upstream) fetch(request *http.Request) (body []byte, err error) {
	response, err := u.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxUpstreamAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxUpstreamAnswer:
		return nil, fmt.Errorf("its answer is larger than %d bytes", maxUpstreamAnswer)
	case response.StatusCode/100 != 2:
		return nil, fmt.Errorf("it answered %s: %.300q", response.Status, body)
	case !json.Valid(body):
		return nil, fmt.Errorf("its answer is not JSON: %.300q", body)
	}
	return body, nil
}

// failure tells a slow upstream (504) from an absent or broken one (502); ctx is the
// client's.
func (u *upstream) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		return &apiError{
			status: http.StatusGatewayTimeout, kind: "upstream_error", code: "upstream_timeout", cause: err,
			message: fmt.Sprintf("the upstream at %s gave no answer within %s", u.name(), u.timeout),
		}
	}
	return &apiError{
		status: http.StatusBadGateway, kind: "upstream_error", code: "upstream_failed", cause: err,
		message: fmt.Sprintf("the upstream at %s failed (start it, or point $OLLAMA_URL at another): %s", u.name(), withoutURL(err)),
	}
}

// name is the upstream's URL without a password in it.
func (u *upstream) name() string {
	parsed, err := url.Parse(u.chatURL)
	if err != nil {
		return "$OLLAMA_URL"
	}
	return parsed.Redacted()
}

// withoutURL strips what net/http prefixes its errors with: the message names it already.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
