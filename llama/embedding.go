package llama

import (
	"errors"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// PoolingType is how the embeddings of a text's tokens become one (llama_pooling_type).
type PoolingType int

// How tokens are pooled.
const (
	PoolingAuto PoolingType = iota // what the model's file says, else PoolingNone
	PoolingNone                    // an embedding for each token
	PoolingMean                    // the mean of all tokens
	PoolingCLS                     // the first token
	PoolingLast                    // the last token
	PoolingRank                    // no embedding but the scores of the model's classifier
)

func (p PoolingType) String() string {
	if p < PoolingAuto || p > PoolingRank {
		return "unknown"
	}
	return [...]string{"auto", "none", "mean", "cls", "last", "rank"}[p]
}

// PoolingType is what the model's file says; PoolingNone where it says nothing.
func (m *Model) PoolingType() PoolingType {
	switch m.meta[m.meta["general.architecture"]+".pooling_type"] {
	case "1":
		return PoolingMean
	case "2":
		return PoolingCLS
	case "3":
		return PoolingLast
	case "4":
		return PoolingRank
	default:
		return PoolingNone
	}
}

// NEmbdOut is the width of the embeddings that a context gives: NEmbd for most models (llama_model_n_embd_out).
func (m *Model) NEmbdOut() int { return int(m.info.NEmbdOut) }

// NClsOut is the number of scores of a model with a classifier (llama_model_n_cls_out).
func (m *Model) NClsOut() int { return int(m.info.NClsOut) }

// checkEmbeddings settles the pooling of a context of the model.
func (m *Model) checkEmbeddings(p *ContextParams) error {
	switch {
	case p.PoolingType < PoolingAuto || p.PoolingType > PoolingRank:
		return errorf(ErrInvalidParam, "PoolingType = %d is none of the constants", p.PoolingType)
	case !p.Embeddings && p.PoolingType != PoolingAuto:
		return errorf(ErrInvalidParam, "PoolingType is %v without Embeddings", p.PoolingType)
	case p.PoolingType == PoolingRank && m.PoolingType() != PoolingRank:
		return errorf(ErrUnsupported, "the model has no classifier: PoolingRank wants a reranker, whose file says pooling_type 4")
	}
	if p.Embeddings && p.PoolingType == PoolingAuto {
		p.PoolingType = m.PoolingType()
	}
	return nil
}

// Embeddings copies the embeddings of n tokens of the last Decode from batch index first on into dst, one row of NEmbdOut
// after the other. The context was made with Embeddings and PoolingNone. They are not normalised.
//
// # Errors
//
//   - [ErrNoLogits] where the last decode has no embeddings there; [ErrInvalidParam] for a dst of another length; [ErrClosed]
//
// C: llama_get_embeddings_ith
func (c *Context) Embeddings(dst []float32, first, n int) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	switch {
	case !c.params.Embeddings || c.params.PoolingType != PoolingNone:
		return errorf(ErrNoLogits, "the context was not made with Embeddings and PoolingNone")
	case first < 0 || n < 1 || n > len(c.outputs)-first:
		return errorf(ErrNoLogits, "the last decode has no %d embeddings from batch index %d on", n, first)
	case len(dst) != n*c.model.NEmbdOut():
		return errorf(ErrInvalidParam, "%d embeddings of %d values do not make %d", n, c.model.NEmbdOut(), len(dst))
	}
	return fromNative(c.native.Embeddings(int32(first), int32(n), dst), ErrNoLogits, "embeddings")
}

// EmbeddingSeq copies the pooled embedding of a sequence of the last Decode into dst, which has NEmbdOut values, or with
// PoolingRank its NClsOut scores. All of the sequence was decoded in one ubatch. It is not normalised.
//
// # Errors
//
//   - [ErrNoLogits] where the last decode has none of it; [ErrInvalidParam] for a dst of another length; [ErrClosed]
//
// C: llama_get_embeddings_seq
func (c *Context) EmbeddingSeq(dst []float32, s SeqID) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	want := c.model.NEmbdOut()
	if c.params.PoolingType == PoolingRank {
		want = c.model.NClsOut()
	}
	switch {
	case !c.params.Embeddings || c.params.PoolingType == PoolingNone || len(c.outputs) == 0:
		return errorf(ErrNoLogits, "sequence %d has no pooled embedding", s)
	case len(dst) != want:
		return errorf(ErrInvalidParam, "the embedding has %d values, dst has %d", want, len(dst))
	}
	return fromNative(c.native.EmbeddingSeq(int32(s), dst), ErrNoLogits, "embedding")
}

// Encode computes a batch with the encoder of a model that has a decoder too, which then attends to it in each Decode of
// these sequences, until the next Encode. Positions begin at 0. The call holds an OS thread.
//
// # Errors
//
//   - [ErrUnsupported] for a model without an encoder beside its decoder; [*DecodeError], [ErrInvalidToken], [ErrClosed]
//
// C: llama_encode
func (c *Context) Encode(b *Batch) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if !c.model.HasEncoder() || !c.model.HasDecoder() {
		return errorf(ErrUnsupported, "only a model with an encoder and a decoder, such as T5, is encoded and then decoded")
	}
	if err := c.checkBatch(b); err != nil {
		return err
	}
	c.outputs, c.encoded = c.outputs[:0], c.encoded[:0]
	c.model.adapting.RLock()
	err := c.native.Encode(b.token, b.pos, b.seq)
	c.model.adapting.RUnlock()
	if err != nil {
		var ne *native.Error
		if errors.As(err, &ne) {
			return &DecodeError{Code: ne.Code, Text: ne.Text}
		}
		return err
	}
	for _, s := range b.seq {
		if !slices.Contains(c.encoded, s) {
			c.encoded = append(c.encoded, s)
		}
	}
	return nil
}

// checkEncoded refuses a decode whose cross attention would have nothing to attend to.
func (c *Context) checkEncoded(b *Batch) error {
	if !c.model.HasEncoder() || !c.model.HasDecoder() {
		return nil
	}
	for i, s := range b.seq {
		if !slices.Contains(c.encoded, s) {
			return invalidBatch("batch index %d: sequence %d was not in the last Encode", i, s)
		}
	}
	return nil
}

// learnedPositions are architectures that look each position up in a table of NCtxTrain rows.
var learnedPositions = []string{"bert", "gpt2", "mpt", "starcoder"}

// positions is how many positions a sequence can have.
func (m *Model) positions() int32 {
	if slices.Contains(learnedPositions, m.meta["general.architecture"]) {
		return m.info.NCtxTrain
	}
	return maxPos + 1
}

// CanGenerate says whether the model continues text: it has a decoder that looks back only, and no encoder. Other models
// embed, rank, or translate ([Context.Encode]).
func (m *Model) CanGenerate() bool { return m.info.HasDecoder && !m.needsWholeUBatch() }

// CanEmbed says whether a context with Embeddings can be made: not of a model that needs an encoder beside its decoder.
func (m *Model) CanEmbed() bool { return !m.info.HasEncoder || !m.info.HasDecoder }
