package engine

import (
	"context"
	"errors"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// embedCall is Embed, EmbedTokens or Rerank in a worker.
type embedCall struct {
	Rank    bool
	Query   string
	Texts   []string
	Tokens  [][]llama.Token
	Pooling llama.PoolingType
	Norm    Norm
}

type embedReply struct {
	Out    [][]float32
	Usage  Usage
	Failed int // 1 + the Index of an ErrText, of which Err is the Err
	Err    wireError
}

func isolatedEmbed(ctx context.Context, w *isolated, c embedCall) ([][]float32, Usage, error) {
	r, err := isolatedCall[embedReply](ctx, w, "embed", "embedCall", c)
	if err == nil && r.Failed > 0 {
		err = &ErrText{Index: r.Failed - 1, Err: r.Err.err()}
	}
	return r.Out, r.Usage, err
}

// serveEmbed is the worker's side of isolatedEmbed.
func (e *Engine) serveEmbed(ctx context.Context, c embedCall) (r embedReply, err error) {
	o := EmbedOptions{Pooling: c.Pooling, Norm: c.Norm, Usage: &r.Usage}
	switch {
	case c.Rank:
		r.Out, r.Usage, err = e.rank(ctx, c.Query, c.Texts)
	case c.Tokens != nil:
		r.Out, err = e.EmbedTokens(ctx, c.Tokens, o)
	default:
		r.Out, err = e.Embed(ctx, c.Texts, o)
	}
	var text *ErrText
	if errors.As(err, &text) {
		return embedReply{Failed: text.Index + 1, Err: newWireError(text.Err)}, nil
	}
	return r, err
}
