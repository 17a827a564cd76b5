package llama

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// The head of a GGUF file: llama.cpp aborts the process for some values in it, and says little about others. It is read here
// first, as far as that needs; the tensors' data and all else are llama.cpp's.

// Types of GGUF values (gguf_type).
const (
	ggufU8 = iota
	ggufI8
	ggufU16
	ggufI16
	ggufU32
	ggufI32
	ggufF32
	ggufBool
	ggufString
	ggufArray
	ggufU64
	ggufI64
	ggufF64
)

var ggufSizes = [...]int64{ggufU8: 1, ggufI8: 1, ggufU16: 2, ggufI16: 2, ggufU32: 4, ggufI32: 4, ggufF32: 4, ggufBool: 1, ggufU64: 8, ggufI64: 8, ggufF64: 8}

// ggufValue is one metadata value; of arrays only what the checks need.
type ggufValue struct {
	kind     uint32
	n        int64 // integers and booleans; the bits of floats
	s        string
	elem     uint32  // arrays: type of the elements
	length   uint64  // arrays
	ints     []int64 // arrays of 32-bit integers: the first ggufKeptInts
	bools    []bool  // arrays of booleans: the first ggufKeptInts
	small    uint64  // arrays of 32-bit integers: bit n is set where n < 64 occurs
	repeated string  // arrays of strings: one that occurs twice
	nul      bool    // arrays of strings: one holds a NUL byte
}

const (
	ggufMaxKV      = 1 << 16
	ggufMaxTensors = 1 << 20
	ggufMaxKey     = 1 << 16
	ggufKeptInts   = 1024
	ggufAlignment  = 32 // TENSOR_ALIGNMENT, which the CPU backend asserts of a mapped file's tensors
)

// ggufReader reads little-endian values and knows how many bytes are left, so that no count in the file is believed.
type ggufReader struct {
	r    *bufio.Reader
	left int64
	buf  [8]byte
}

func (g *ggufReader) bytes(n int64) ([]byte, error) {
	if n < 0 || n > g.left {
		return nil, fmt.Errorf("it ends within its head: incomplete download?")
	}
	g.left -= n
	b := g.buf[:min(n, 8)]
	if n > 8 {
		b = make([]byte, n)
	}
	_, err := io.ReadFull(g.r, b)
	return b, err
}

func (g *ggufReader) skip(n int64) error {
	if n < 0 || n > g.left {
		return fmt.Errorf("it ends within its head: incomplete download?")
	}
	g.left -= n
	for n > 0 {
		d, err := g.r.Discard(int(min(n, 1<<30)))
		if err != nil {
			return err
		}
		n -= int64(d)
	}
	return nil
}

func (g *ggufReader) uint(size int64) (uint64, error) {
	b, err := g.bytes(size)
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:]), nil
}

func (g *ggufReader) string() (string, error) {
	n, err := g.uint(8)
	if err != nil {
		return "", err
	}
	if n > math.MaxInt64 {
		return "", fmt.Errorf("a text of %d bytes", n)
	}
	b, err := g.bytes(int64(n))
	return string(b), err
}

func (g *ggufReader) value() (v ggufValue, err error) {
	kind, err := g.uint(4)
	if err != nil {
		return v, err
	}
	v.kind = uint32(kind)
	switch {
	case kind == ggufString:
		v.s, err = g.string()
	case kind == ggufArray:
		err = g.array(&v)
	case kind < uint64(len(ggufSizes)):
		var n uint64
		size := ggufSizes[kind]
		n, err = g.uint(size)
		v.n = int64(n)
		if kind == ggufI8 || kind == ggufI16 || kind == ggufI32 {
			v.n = int64(n<<(64-8*size)) >> (64 - 8*size)
		}
	default:
		err = fmt.Errorf("a value of unknown type %d", kind)
	}
	return v, err
}

func (g *ggufReader) array(v *ggufValue) error {
	elem, err := g.uint(4)
	if err != nil {
		return err
	}
	v.elem = uint32(elem)
	if v.length, err = g.uint(8); err != nil {
		return err
	}
	if v.length > uint64(g.left) {
		return fmt.Errorf("an array of %d elements in %d bytes", v.length, g.left)
	}
	switch {
	case elem == ggufString:
		seen := make(map[string]struct{}, min(v.length, 1<<20))
		for i := range v.length {
			s, err := g.string()
			if err != nil {
				return err
			}
			v.nul = v.nul || strings.IndexByte(s, 0) >= 0
			if s == "" {
				s = fmt.Sprintf("[EMPTY_%d]", i) // as llama.cpp names empty tokens
			}
			if _, twice := seen[s]; twice {
				v.repeated = s
			}
			seen[s] = struct{}{}
		}
		return nil
	case elem == ggufI32 || elem == ggufU32:
		for range v.length {
			n, err := g.uint(4)
			if err != nil {
				return err
			}
			if n < 64 {
				v.small |= 1 << n
			}
			if len(v.ints) < ggufKeptInts {
				v.ints = append(v.ints, int64(n))
			}
		}
		return nil
	case elem == ggufBool:
		for range v.length {
			n, err := g.uint(1)
			if err != nil {
				return err
			}
			if len(v.bools) < ggufKeptInts {
				v.bools = append(v.bools, n != 0)
			}
		}
		return nil
	case elem < uint64(len(ggufSizes)) && ggufSizes[elem] > 0:
		return g.skip(int64(v.length) * ggufSizes[elem])
	default:
		return fmt.Errorf("an array of unknown type %d", elem)
	}
}

// readGGUF reads the head of a file of size bytes.
func readGGUF(r io.Reader, size int64) (map[string]ggufValue, []ggufTensor, error) {
	g := &ggufReader{r: bufio.NewReaderSize(r, 1<<16), left: size}
	magic, err := g.uint(4)
	if err != nil {
		return nil, nil, fmt.Errorf("it has only %d bytes", size)
	}
	if magic != 0x46554747 {
		return nil, nil, fmt.Errorf("it does not begin with GGUF")
	}
	version, err := g.uint(4)
	if err != nil {
		return nil, nil, err
	}
	if version < 2 || version > 3 {
		return nil, nil, fmt.Errorf("it has GGUF version %d, supported are 2 and 3, little-endian", version)
	}
	nTensors, err := g.uint(8)
	if err != nil {
		return nil, nil, err
	}
	nKV, err := g.uint(8)
	if err != nil {
		return nil, nil, err
	}
	if nTensors > ggufMaxTensors || nKV > ggufMaxKV {
		return nil, nil, fmt.Errorf("it claims %d tensors and %d metadata values", nTensors, nKV)
	}
	kv := make(map[string]ggufValue, nKV)
	for range nKV {
		key, err := g.string()
		if err != nil {
			return nil, nil, err
		}
		if len(key) > ggufMaxKey {
			return nil, nil, fmt.Errorf("a metadata key of %d bytes", len(key))
		}
		v, err := g.value()
		if err != nil {
			return nil, nil, fmt.Errorf("metadata %.60q: %w", key, err)
		}
		kv[key] = v
	}
	tensors, err := g.tensors(nTensors)
	align := uint64(ggufAlignment)
	if v, ok := kv["general.alignment"]; ok && v.n > 0 {
		align = uint64(v.n)
	}
	data := (uint64(size-g.left) + align - 1) / align * align
	for i := range tensors {
		if tensors[i].at > uint64(size) {
			return nil, nil, tensors[i].outside()
		}
		tensors[i].at += data
	}
	return kv, tensors, err
}

// ggufHead is what planning needs of a file's metadata.
type ggufHead struct {
	arch   string
	nVocab int64 // 0 without a vocabulary
	output bool  // the output layer has weights of its own

	quantised bool  // some tensor is
	fileType  int32 // llama_ftype, -1 where it is not told
}

// checkGGUF refuses metadata for which llama.cpp would abort the process.
func checkGGUF(r io.Reader, size int64) (head ggufHead, err error) {
	p, err := readPart(r, size)
	if err != nil {
		return head, err
	}
	return checkParts([]ggufPart{p})
}

// hyperparams are the metadata of one architecture, and the tensors of its file.
type hyperparams struct {
	kv      map[string]ggufValue
	tensors []ggufTensor
	arch    string
}

// get gives the largest integer of a value or array; standard where there is none.
func (h *hyperparams) get(key string, standard int64) (int64, error) {
	v, ok := h.kv[h.arch+"."+key]
	if !ok {
		return standard, nil
	}
	switch v.kind {
	case ggufU32, ggufI32, ggufU16, ggufI16, ggufU8, ggufI8, ggufU64, ggufI64:
		return v.n, nil
	case ggufArray:
		if (v.elem == ggufU32 || v.elem == ggufI32) && len(v.ints) > 0 {
			return slices.Max(v.ints), nil
		}
	}
	return 0, fmt.Errorf("%s.%s is not an integer", h.arch, key)
}

func (h *hyperparams) check() error {
	var failed error
	get := func(key string, standard int64) int64 {
		n, err := h.get(key, standard)
		if err != nil && failed == nil {
			failed = err
		}
		return n
	}
	within := func(key string, n, lo, hi int64) {
		if (n < lo || n > hi) && failed == nil {
			failed = fmt.Errorf("%s.%s is %d: want %d to %d", h.arch, key, n, lo, hi)
		}
	}
	const maxLayers, maxExperts = 512, 1024 // LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS
	layers := get("block_count", 1)
	within("block_count", layers, 1, maxLayers)
	within("nextn_predict_layers", get("nextn_predict_layers", 0), 0, layers)
	experts, used := get("expert_count", 0), get("expert_used_count", 0)
	within("expert_count", experts, 0, maxExperts)
	if experts > 0 {
		within("expert_used_count", used, 1, experts)
	} else {
		within("expert_used_count", used, 0, 0)
	}
	if groups := get("expert_group_count", 0); groups > 1 {
		within("expert_group_count", groups, 0, experts-1)
		within("expert_group_used_count", get("expert_group_used_count", 0), 1, groups-1)
		if failed == nil && experts%groups != 0 {
			failed = fmt.Errorf("%d experts do not make %d groups", experts, groups)
		}
	} else {
		within("expert_group_count", groups, 0, min(experts, 1))
	}
	const most = 1 << 30
	for _, key := range []string{"context_length", "embedding_length"} {
		within(key, get(key, 1), 1, most)
	}
	for _, key := range []string{"feed_forward_length", "attention.head_count", "attention.head_count_kv"} {
		within(key, get(key, 1), 0, most)
	}
	if v, ok := h.kv[h.arch+".rope.scaling.type"]; ok && v.kind == ggufString && failed == nil &&
		!slices.Contains([]string{"none", "linear", "yarn", "longrope"}, v.s) {
		failed = fmt.Errorf("%s.rope.scaling.type is %.40q", h.arch, v.s)
	}
	for _, key := range []string{"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.group_norm_epsilon"} {
		v, ok := h.kv[h.arch+"."+key]
		if eps := math.Float32frombits(uint32(v.n)); ok && failed == nil && v.kind == ggufF32 && !(eps >= 0) {
			failed = fmt.Errorf("%s.%s is %v", h.arch, key, eps)
		}
	}
	const byteTokens = 1 << 6 // LLAMA_TOKEN_TYPE_BYTE
	if h.kv["tokenizer.ggml.model"].s == "bert" && h.kv["tokenizer.ggml.token_type"].small&byteTokens != 0 && failed == nil {
		failed = fmt.Errorf("a WordPiece vocabulary has no byte tokens")
	}
	if v, ok := h.kv["tokenizer.ggml.tokens"]; ok && failed == nil {
		switch {
		case v.kind != ggufArray || v.elem != ggufString:
			failed = fmt.Errorf("tokenizer.ggml.tokens is not an array of texts")
		case v.nul:
			failed = fmt.Errorf("a token of the vocabulary contains a NUL byte")
		case v.repeated != "":
			failed = fmt.Errorf("the vocabulary holds %.40q twice", strings.ToValidUTF8(v.repeated, "?"))
		}
	}
	return failed
}
