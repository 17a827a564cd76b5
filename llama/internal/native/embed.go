//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import "unsafe"

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

// Encode is llama_encode of a batch in flat arrays, within the call.
func (c Context) Encode(token, pos, seq []int32) error {
	var cerr *C.char
	return toError(C.lm_encode(c.p, ptr32(token), ptr32(pos), ptr32(seq), C.int32_t(len(token)), &cerr), cerr)
}
