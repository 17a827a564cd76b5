//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// Model is an opaque llama_model.
type Model struct{ p *C.struct_llama_model }

// LoadModel loads a file with its tensors where plan puts them; progress, where given, is called on this goroutine's thread
// and stops the load by returning false. The plan is not used afterwards.
func LoadModel(path string, p ModelParams, plan Plan, progress func(float32) bool) (Model, error) {
	cpath := C.CString(path)
	defer C.lm_free(unsafe.Pointer(cpath))
	cp := C.lm_model_params{
		plan:          plan.p,
		load_mode:     C.int32_t(p.LoadMode),
		check_tensors: C.bool(p.CheckTensors),
		vocab_only:    C.bool(p.VocabOnly),
	}
	if progress != nil {
		h := cgo.NewHandle(progress)
		defer h.Delete()
		cp.progress = C.uintptr_t(h)
	}
	var m Model
	var cerr *C.char
	err := toError(C.lm_model_load(cpath, &cp, &m.p, &cerr), cerr)
	return m, err
}

// Free releases the model.
func (m Model) Free() { C.lm_model_free(m.p) }

// Info reads the fixed facts.
func (m Model) Info() ModelInfo {
	var i C.lm_model_info
	C.lm_model_get_info(m.p, &i)
	return ModelInfo{
		Size: uint64(i.size), NParams: uint64(i.n_params),
		NCtxTrain: int32(i.n_ctx_train), NEmbd: int32(i.n_embd), NEmbdOut: int32(i.n_embd_out), NClsOut: int32(i.n_cls_out), NLayer: int32(i.n_layer), NHead: int32(i.n_head), NSWA: int32(i.n_swa),
		RopeType: int32(i.rope_type), VocabType: int32(i.vocab_type), NTokens: int32(i.n_tokens),
		BOS: int32(i.bos), EOS: int32(i.eos), EOT: int32(i.eot), NL: int32(i.nl), SEP: int32(i.sep),
		HasEncoder: bool(i.has_encoder), HasDecoder: bool(i.has_decoder),
		IsRecurrent: bool(i.is_recurrent), IsHybrid: bool(i.is_hybrid), IsDiffusion: bool(i.is_diffusion),
		AddBOS: bool(i.add_bos), AddEOS: bool(i.add_eos), AddSEP: bool(i.add_sep),
		Desc: C.GoString(&i.desc[0]),
	}
}

// Meta reads all metadata: keys and values in turn, each ended by a NUL.
func (m Model) Meta() (string, error) {
	var out, cerr *C.char
	var n C.size_t
	if err := toError(C.lm_model_meta(m.p, &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}

// Pieces reads the whole vocabulary.
func (m Model) Pieces(nTokens int) (Pieces, error) {
	var text, cerr *C.char
	var ends *C.uint32_t
	var flags *C.uint8_t
	if err := toError(C.lm_vocab_pieces(m.p, &text, &ends, &flags, &cerr), cerr); err != nil {
		return Pieces{}, err
	}
	defer func() {
		C.lm_free(unsafe.Pointer(text))
		C.lm_free(unsafe.Pointer(ends))
		C.lm_free(unsafe.Pointer(flags))
	}()
	p := Pieces{
		Ends:  append([]uint32(nil), unsafe.Slice((*uint32)(unsafe.Pointer(ends)), nTokens)...),
		Flags: append([]uint8(nil), unsafe.Slice((*uint8)(unsafe.Pointer(flags)), nTokens)...),
	}
	if nTokens > 0 {
		p.Text = C.GoBytes(unsafe.Pointer(text), C.int(p.Ends[nTokens-1]))
	}
	return p, nil
}

// Text reads a token's raw vocabulary entry.
func (m Model) Text(token int32) (string, error) {
	var out, cerr *C.char
	var n C.size_t
	if err := toError(C.lm_vocab_text(m.p, C.int32_t(token), &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}

// Tokenize appends the tokens of text to dst.
func Tokenize[T ~int32](m Model, dst []T, text string, addSpecial, parseSpecial bool) ([]T, error) {
	var out *C.int32_t
	var cerr *C.char
	var n C.size_t
	p, size := chars(text)
	if err := toError(C.lm_tokenize(m.p, p, size, C.bool(addSpecial), C.bool(parseSpecial), &out, &n, &cerr), cerr); err != nil {
		return nil, err
	}
	defer C.lm_free(unsafe.Pointer(out))
	return append(dst, unsafe.Slice((*T)(unsafe.Pointer(out)), int(n))...), nil
}

// Detokenize gives the text of tokens.
func Detokenize[T ~int32](m Model, tokens []T, removeSpecial, unparseSpecial bool) (string, error) {
	var out, cerr *C.char
	var n C.size_t
	p := (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(tokens)))
	if err := toError(C.lm_detokenize(m.p, p, C.size_t(len(tokens)), C.bool(removeSpecial), C.bool(unparseSpecial), &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}
