package server

import (
	"context"
	"log/slog"
)

type clientKey struct{}

// WithClient returns a handler for [sandbox.Config.Audit] that adds to each record
// which client of the service asked for the command.
func WithClient(h slog.Handler) slog.Handler { return clientHandler{h} }

type clientHandler struct{ slog.Handler }

func (h clientHandler) Handle(ctx context.Context, r slog.Record) error {
	if client, ok := ctx.Value(clientKey{}).(string); ok {
		r = r.Clone()
		r.AddAttrs(slog.String("client", client))
	}
	return h.Handler.Handle(ctx, r)
}

func (h clientHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return clientHandler{h.Handler.WithAttrs(attrs)}
}

func (h clientHandler) WithGroup(name string) slog.Handler {
	return clientHandler{h.Handler.WithGroup(name)}
}
