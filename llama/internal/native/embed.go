//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import (
	"slices"
	"unsafe"
)

func floats(s []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(s))) }

// Embeddings copies the embeddings of n tokens of the last decode from batch index first on into dst, which has n rows.
func (c Context) Embeddings(first, n int32, dst []float32) error {
	var cerr *C.char
	return toError(C.lm_embeddings(c.p, C.int32_t(first), C.int32_t(n), floats(dst), C.int32_t(len(dst)/int(n)), &cerr), cerr)
}

// EmbeddingSeq copies the pooled embedding of a sequence of the last decode, or its scores.
func (c Context) EmbeddingSeq(seq int32, dst []float32) error {
	var cerr *C.char
	return toError(C.lm_embedding_seq(c.p, C.int32_t(seq), floats(dst), C.int32_t(len(dst)), &cerr), cerr)
}

// Encode is llama_encode of a batch in flat arrays, on the context's thread as Decode.
func (c Context) Encode(token, pos, seq []int32) error {
	return c.Decode(token, pos, seq, slices.Repeat([]int8{1}, len(token)), nil, 0)
}
