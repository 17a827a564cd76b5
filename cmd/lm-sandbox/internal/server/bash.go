package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// command is the body of the three original endpoints.
type command struct {
	Cmd *string `json:"cmd"`
}

func (s *Server) readCommand(w http.ResponseWriter, r *http.Request) (string, error) {
	var c command
	if err := s.readJSON(w, r, &c); err != nil {
		return "", err
	}
	if c.Cmd == nil || strings.TrimSpace(*c.Cmd) == "" {
		return "", badRequest("missing_cmd", "field \"cmd\" is missing or empty: send {\"cmd\": \"...\"}")
	}
	return *c.Cmd, nil
}

// bashRunner runs commands, each in a sandbox of its own with the operator's configuration.
type bashRunner struct {
	config sandbox.Config
	gate   *gate
	run    func(context.Context, sandbox.Config, string) (sandbox.Result, error)
}

// bashAnswer is the answer of POST /run-bash/. A command that fails or is killed is
// an answer like any other: ExitCode and Limit tell.
type bashAnswer struct {
	Output   string `json:"output"`    // stdout; bytes that are not UTF-8 become U+FFFD
	Error    string `json:"error"`     // stderr, likewise
	ExitCode int    `json:"exit_code"` // 128 + signal where one ended it
	Limit    string `json:"limit"`     // the limit that ended it or cut its output, or ""
	Level    string `json:"level"`     // how strongly it was isolated
}

func (s *Server) runBash(w http.ResponseWriter, r *http.Request) error {
	cmd, err := s.readCommand(w, r)
	if err != nil {
		return err
	}
	if err := s.bash.gate.enter(r.Context()); err != nil {
		return err
	}
	defer s.bash.gate.leave()
	result, err := s.bash.run(context.WithValue(r.Context(), clientKey{}, r.RemoteAddr), s.bash.config, cmd)
	if err != nil {
		return sandboxError(r.Context(), err)
	}
	limit := result.Limit
	if limit == sandbox.LimitNone && (result.StdoutTruncated || result.StderrTruncated) {
		limit = sandbox.LimitOutput // the command went on, but its caller must know
	}
	return writeJSON(w, http.StatusOK, bashAnswer{
		Output:   string(result.Stdout),
		Error:    string(result.Stderr),
		ExitCode: result.ExitCode,
		Limit:    string(limit),
		Level:    result.Level.String(),
	})
}

// sandboxError is the answer where a command could not be run at all. Errors of the
// sandbox name paths of the host, which are for the log: a client is told the remedy for
// a host that refuses sandboxes as such, which is a text of the sandbox's own.
func sandboxError(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return cancelled(ctx)
	}
	var invalid *sandbox.ErrConfig
	if errors.As(err, &invalid) && invalid.Field == "command" {
		return badRequest("invalid_cmd", "field \"cmd\": %s", invalid.Reason)
	}
	var unwritten *sandbox.ErrAudit
	if errors.As(err, &unwritten) {
		return &apiError{
			status: http.StatusInternalServerError, kind: "server_error", code: "audit_failed",
			message: "the command ran and its record could not be written: its output is withheld", cause: err,
		}
	}
	message := "the command could not be run: the service's log has the reason under this answer's X-Request-Id"
	var level *sandbox.ErrLevel
	var namespace *sandbox.ErrUserNamespace
	switch {
	case errors.As(err, &level):
		message += "; " + level.Remedy
	case errors.As(err, &namespace):
		message += "; " + namespace.Remedy
	}
	return &apiError{
		status: http.StatusInternalServerError, kind: "server_error", code: "sandbox_unavailable", message: message, cause: err,
	}
}
