//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"os"
	"time"
	"unsafe"
)

// Context is an opaque llama_context with the thread that decodes.
type Context struct {
	p    *C.lm_context
	done *signal // the thread has done a step
}

// signal is a pipe from C to a goroutine, which waits in the network poller.
type signal struct {
	r, w *os.File
	buf  [1]byte
}

func newSignal() (*signal, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &signal{r: r, w: w}, nil
}

func (s *signal) fd() (fd int32, err error) {
	raw, err := s.w.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int32(f) })
	}
	return fd, err
}

func (s *signal) wait() error {
	_, err := s.r.Read(s.buf[:])
	return err
}

func (s *signal) close() {
	_ = s.r.Close()
	_ = s.w.Close()
}

// Row is one row to sample after a decode, in C's layout.
type Row = C.lm_row

func (p ContextParams) c() C.lm_context_params {
	cp := C.lm_context_params{
		n_ctx: C.uint32_t(p.NCtx), n_batch: C.uint32_t(p.NBatch), n_ubatch: C.uint32_t(p.NUBatch),
		n_seq_max: C.uint32_t(p.NSeqMax), n_outputs_max: C.uint32_t(p.NOutputsMax),
		n_threads: C.int32_t(p.NThreads), n_threads_batch: C.int32_t(p.NThreadsBatch),
		flash_attn: C.int32_t(p.FlashAttn), type_k: C.int32_t(p.TypeK), type_v: C.int32_t(p.TypeV),
		embeddings: C.bool(p.Embeddings), pooling_type: C.int32_t(p.PoolingType),
		kv_unified: C.bool(p.KVUnified), swa_full: C.bool(p.SWAFull), offload_kqv: C.bool(p.OffloadKQV), op_offload: C.bool(p.OpOffload),
		strict_cpu: C.bool(p.StrictCPU), priority: C.int32_t(p.Priority),
	}
	for i, on := range p.CPUMask {
		cp.cpumask[i] = C.bool(on)
	}
	return cp
}

// NewContext makes a context.
func NewContext(m Model, p ContextParams) (Context, ContextInfo, error) {
	cp := p.c()
	var c Context
	done, err := newSignal()
	if err != nil {
		return c, ContextInfo{}, err
	}
	fd, err := done.fd()
	if err != nil {
		done.close()
		return c, ContextInfo{}, err
	}
	cp.done_fd = C.int32_t(fd)
	c.done = done
	var i C.lm_context_info
	var cerr *C.char
	if err := toError(C.lm_context_new(m.p, &cp, &c.p, &i, &cerr), cerr); err != nil {
		done.close()
		return c, ContextInfo{}, err
	}
	return c, ContextInfo{
		NCtx: uint32(i.n_ctx), NCtxSeq: uint32(i.n_ctx_seq), NBatch: uint32(i.n_batch), NUBatch: uint32(i.n_ubatch),
		NSeqMax: uint32(i.n_seq_max), HasMemory: bool(i.has_memory), CanShift: bool(i.can_shift),
	}, nil
}

// Free releases the context.
func (c Context) Free() {
	C.lm_context_free(c.p)
	c.done.close()
}

// Abort sets or clears the flag that stops a decode; any goroutine.
func (c Context) Abort(on bool) { C.lm_context_abort(c.p, C.bool(on)) }

// Hold ends a decode of several steps with the one in flight, until it is switched off; any goroutine.
func (c Context) Hold(on bool) { C.lm_context_hold(c.p, C.bool(on)) }

// Times gives what the context has spent in llama_decode and in sampling; any goroutine.
func (c Context) Times() (decode, sample time.Duration) {
	var d, s C.int64_t
	C.lm_context_times(c.p, &d, &s)
	return time.Duration(d), time.Duration(s)
}

// SetRow prepares a row; draft is how many tokens behind index are guesses, probs how many there are for each token.
func SetRow(r *Row, s Sampler, index, draft, probs int32) {
	*r = Row{sampler: s.p, index: C.int32_t(index), n_draft: C.int32_t(draft), n_probs: C.int32_t(probs)}
}

// RowResult gives a row's tokens and probabilities, which stay until the next decode, and the error that ended it, whose text
// it releases.
func RowResult(r *Row) ([]int32, []Prob, error) {
	tokens := unsafe.Slice((*int32)(unsafe.Pointer(r.tokens)), int(r.n_tokens))
	probs := unsafe.Slice((*Prob)(unsafe.Pointer(r.probs)), int(r.n_tokens*r.n_probs))
	if r.code == C.LM_OK {
		return tokens, probs, nil
	}
	err := toError(r.code, r.err)
	r.err = nil
	return tokens, probs, err
}

// Decode decodes one batch of flat arrays and samples the rows, up to steps times where each token has its row. The calling
// goroutine is parked meanwhile: no thread of Go's is held.
func (c Context) Decode(token, pos, seq []int32, logits []int8, rows []Row, steps int) error {
	code := C.lm_decode_start(c.p, ptr32(token), ptr32(pos), ptr32(seq), (*C.int8_t)(unsafe.Pointer(unsafe.SliceData(logits))),
		C.int32_t(len(token)), unsafe.SliceData(rows), C.int32_t(len(rows)), C.int32_t(steps))
	if code != C.LM_OK {
		return &Error{Code: int(code), Text: "out of memory"}
	}
	if err := c.done.wait(); err != nil {
		panic(fmt.Sprintf("llama: the pipe of a context failed: %v", err)) // the thread still computes: nothing can be undone
	}
	code = C.lm_decode_finish(c.p, unsafe.SliceData(rows), C.int32_t(len(rows)))
	if code == C.LM_OK {
		return nil
	}
	return &Error{Code: int(code), Text: C.GoString(C.lm_decode_error_c_str(c.p))}
}

// Sample samples at a batch index without accepting the token.
func (c Context) Sample(s Sampler, index int32) (int32, error) {
	var token C.int32_t
	var cerr *C.char
	err := toError(C.lm_sample(c.p, s.p, C.int32_t(index), &token, &cerr), cerr)
	return int32(token), err
}

// SampleRow samples at a batch index and accepts the token; probs are filled in.
func (c Context) SampleRow(s Sampler, index int32, probs []Prob) (int32, error) {
	var token C.int32_t
	var cerr *C.char
	p := (*C.lm_prob)(unsafe.Pointer(unsafe.SliceData(probs)))
	err := toError(C.lm_sample_row(c.p, s.p, C.int32_t(index), &token, C.int32_t(len(probs)), p, &cerr), cerr)
	return int32(token), err
}

// LogitsAt gives the context's own n logits at a batch index, valid until the next decode.
func (c Context) LogitsAt(index int32, n int) ([]float32, error) {
	var out *C.float
	var cerr *C.char
	if err := toError(C.lm_logits_at(c.p, C.int32_t(index), &out, &cerr), cerr); err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(out)), n), nil
}

// Logits copies the logits at a batch index into dst, which has one entry per token of the vocabulary.
func (c Context) Logits(index int32, dst []float32) error {
	var cerr *C.char
	return toError(C.lm_logits(c.p, C.int32_t(index), (*C.float)(unsafe.Pointer(unsafe.SliceData(dst))), C.int32_t(len(dst)), &cerr), cerr)
}

// MemoryClear is llama_memory_clear.
func (c Context) MemoryClear(data bool) bool { return bool(C.lm_memory_clear(c.p, C.bool(data))) }

// MemorySeqRemove is llama_memory_seq_rm.
func (c Context) MemorySeqRemove(s, p0, p1 int32) bool {
	return bool(C.lm_memory_seq_rm(c.p, C.int32_t(s), C.int32_t(p0), C.int32_t(p1)))
}

// MemorySeqCopy is llama_memory_seq_cp.
func (c Context) MemorySeqCopy(src, dst, p0, p1 int32) bool {
	return bool(C.lm_memory_seq_cp(c.p, C.int32_t(src), C.int32_t(dst), C.int32_t(p0), C.int32_t(p1)))
}

// MemorySeqKeep is llama_memory_seq_keep.
func (c Context) MemorySeqKeep(s int32) bool { return bool(C.lm_memory_seq_keep(c.p, C.int32_t(s))) }

// MemorySeqAdd is llama_memory_seq_add.
func (c Context) MemorySeqAdd(s, p0, p1, delta int32) bool {
	return bool(C.lm_memory_seq_add(c.p, C.int32_t(s), C.int32_t(p0), C.int32_t(p1), C.int32_t(delta)))
}

// MemorySeqDiv is llama_memory_seq_div.
func (c Context) MemorySeqDiv(s, p0, p1, d int32) bool {
	return bool(C.lm_memory_seq_div(c.p, C.int32_t(s), C.int32_t(p0), C.int32_t(p1), C.int32_t(d)))
}

// MemoryPos is llama_memory_seq_pos_min and _max.
func (c Context) MemoryPos(s int32) (lo, hi int32) {
	var a, b C.int32_t
	C.lm_memory_pos(c.p, C.int32_t(s), &a, &b)
	return int32(a), int32(b)
}

// StateSeqSize is llama_state_seq_get_size_ext.
func (c Context) StateSeqSize(s int32, flags uint32) int {
	return int(C.lm_state_seq_size(c.p, C.int32_t(s), C.uint32_t(flags)))
}

// StateSeqGet is llama_state_seq_get_data_ext: the number of bytes written, 0 where it failed.
func (c Context) StateSeqGet(s int32, dst []byte, flags uint32) int {
	return int(C.lm_state_seq_get(c.p, C.int32_t(s), (*C.uint8_t)(unsafe.SliceData(dst)), C.size_t(len(dst)), C.uint32_t(flags)))
}

// StateSeqSet is llama_state_seq_set_data_ext: the number of bytes read, 0 where it failed.
func (c Context) StateSeqSet(s int32, src []byte, flags uint32) int {
	return int(C.lm_state_seq_set(c.p, C.int32_t(s), (*C.uint8_t)(unsafe.SliceData(src)), C.size_t(len(src)), C.uint32_t(flags)))
}
