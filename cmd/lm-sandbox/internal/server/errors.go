package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// ErrKeyRequired is what [New] and [Server.Serve] return (inside a
// [KeyRequiredError]) where the service would be reachable beyond loopback
// without a key.
var ErrKeyRequired = errors.New("server: a key is required beyond loopback")

// KeyRequiredError says which address was refused. errors.Is(err, ErrKeyRequired) holds.
type KeyRequiredError struct{ Addr string }

func (e *KeyRequiredError) Error() string {
	return fmt.Sprintf("server: %s is reachable from other machines, and whoever reaches it may run commands: "+
		"set a key with --key or $LM_SANDBOX_KEY, which clients send as \"Authorization: Bearer KEY\", or listen on 127.0.0.1", e.Addr)
}

// Is makes errors.Is(err, ErrKeyRequired) hold.
func (e *KeyRequiredError) Is(target error) bool { return target == ErrKeyRequired }

// OptionError is what [New] returns for an option it cannot work with.
type OptionError struct{ Option, Reason string }

func (e *OptionError) Error() string {
	return fmt.Sprintf("server: option %s: %s", e.Option, e.Reason)
}

// errClosing is the cause of every request's cancelled context once the grace
// period of a shutdown is over.
var errClosing = errors.New("server: closing")

// apiError is a failure as the client sees it.
type apiError struct {
	status     int
	kind       string // "type" of OpenAI's format
	code       string
	message    string
	retryAfter int    // seconds; 0 = no header
	allow      string // the Allow header of a 405
	cause      error  // for the log only
	sent       bool   // the client has been told, inside a stream
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.message
}

func (e *apiError) Unwrap() error { return e.cause }

// statusClientGone is what the log shows for a client that left before its
// answer (nginx's convention); nobody receives it.
const statusClientGone = 499

func badRequest(code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: "invalid_request_error", code: code, message: fmt.Sprintf(format, args...)}
}

func forbidden(code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusForbidden, kind: "permission_error", code: code, message: fmt.Sprintf(format, args...)}
}

func busy(message string) *apiError {
	return &apiError{status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "busy", message: message, retryAfter: 1}
}

func closing() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: "unavailable_error", code: "closing",
		message: "the service is shutting down: send the request again in a moment", retryAfter: 5,
	}
}

func workerDied(cause error) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: "unavailable_error", code: "worker_died", cause: cause,
		message: "the process that runs the model ended under this request, and another one is started: send the request again", retryAfter: 1,
	}
}

func internal(cause error) *apiError {
	return &apiError{
		status: http.StatusInternalServerError, kind: "server_error", code: "internal_error", cause: cause,
		message: "the service failed on this request: its log has the reason under this answer's X-Request-Id",
	}
}

// cancelled is the error of a request whose context is done: the service is
// closing, or the client has gone.
func cancelled(ctx context.Context) *apiError {
	if errors.Is(context.Cause(ctx), errClosing) {
		return closing()
	}
	return clientGone(context.Cause(ctx))
}

func clientGone(cause error) *apiError {
	return &apiError{status: statusClientGone, kind: "client_gone", code: "client_gone", message: "the client went away", cause: cause}
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code"`
}

func (e *apiError) body() errorBody {
	return errorBody{errorDetail{Message: e.message, Type: e.kind, Code: e.code}}
}

func (e *apiError) write(w http.ResponseWriter) error {
	h := w.Header()
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	if e.allow != "" {
		h.Set("Allow", e.allow)
	}
	switch e.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		h.Set("Connection", "close") // what is left of the body is not worth reading
	}
	return writeJSON(w, e.status, e.body())
}
