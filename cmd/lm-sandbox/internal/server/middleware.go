package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// Handler returns the service with its guards, for use under an [http.Server] of the
// caller's own; such a server must set its own timeouts. Most callers want [Server.Serve].
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		id := rand.Text()[:16]
		log := s.log.With("request", id)
		out := &response{ResponseWriter: w, writeTimeout: s.timeouts.write}
		setHeaders(out.Header(), id)
		defer func() {
			if err := recovered(recover(), log); err != nil {
				out.fail(err, log)
			}
			log.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", out.status),
				slog.Int64("bytes", out.bytes), slog.Duration("took", time.Since(begin)), slog.String("from", r.RemoteAddr))
			if out.broken {
				panic(http.ErrAbortHandler) // cuts the connection, so that no client takes a part for the whole
			}
		}()
		if err := s.dispatch(out, r); err != nil {
			out.fail(asAPIError(r.Context(), err), log)
		}
	})
}

// setHeaders sets what every answer carries. There is no Access-Control header, here
// or elsewhere: no page of another origin may read an answer.
func setHeaders(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// recovered turns a panic of a handler into the error that the client gets, and logs
// its stack.
func recovered(p any, log *slog.Logger) *apiError {
	if p == nil {
		return nil
	}
	log.Error("a handler panicked", "panic", p, "stack", string(debug.Stack()))
	return internal(nil)
}

// asAPIError translates whatever a handler returned.
func asAPIError(ctx context.Context, err error) *apiError {
	var api *apiError
	if errors.As(err, &api) {
		return api
	}
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	return engineError(err)
}

// response records what was sent, for the log, and bounds the time a client may take
// to accept each write.
type response struct {
	http.ResponseWriter
	writeTimeout time.Duration
	status       int
	bytes        int64
	broken       bool // the answer is missing, or begun and not to be finished
}

// Unwrap lets http.ResponseController reach the connection.
func (o *response) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *response) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

func (o *response) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	if err := http.NewResponseController(o.ResponseWriter).SetWriteDeadline(time.Now().Add(o.writeTimeout)); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := o.ResponseWriter.Write(p)
	o.bytes += int64(n)
	return n, err
}

// fail sends err as the answer, unless one was begun or nobody is there to read it.
func (o *response) fail(err *apiError, log *slog.Logger) {
	if err.status >= http.StatusInternalServerError && err.cause != nil {
		log.Error("request failed", "error", err.cause)
	}
	if o.status != 0 || err.status == statusClientGone {
		o.status, o.broken = err.status, !err.sent
		return
	}
	if writeErr := err.write(o); writeErr != nil {
		log.Debug("the error could not be sent", "error", writeErr)
	}
}
