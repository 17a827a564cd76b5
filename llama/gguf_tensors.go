package llama

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// ggufTensor is one entry of a file's table of tensors.
type ggufTensor struct {
	name string
	dims []uint64
	kind uint32 // ggml_type
	at   uint64 // of its data in the file
}

// weightTypes are the types that the matrix product takes as weights. Others (integers, F64, the types that quantise
// activations) end the process in the middle of a graph.
var weightTypes = func() (types [43]bool) {
	for _, t := range []int{
		typeF32, 1, 2, 3, 6, 7, 8, // F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
		10, 11, 12, 13, 14, // Q2_K to Q6_K
		16, 17, 18, 19, 20, 21, 22, 23, 29, // IQ…
		30, 34, 35, 39, 40, 41, 42, // BF16, TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0
	} {
		types[t] = true
	}
	return types
}()

const typeF32 = 0

// floatTypes are F32, F16 and BF16.
var floatTypes = []uint32{typeF32, 1, 30}

// floats are parts of the names of matrices that are F32 in every file that llama.cpp's converter makes: they are operands of
// what works on F32 only.
var floats = []string{"_norm.weight", "ffn_gate_inp", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv", "time_mix_", "posnet.", "altup_correct_coef",
	"altup_predict_coef", "indexer.proj", "attn_rel_b"}

// tensors reads the table that follows the metadata.
func (g *ggufReader) tensors(n uint64) ([]ggufTensor, error) {
	var out []ggufTensor
	for range n {
		name, err := g.string()
		if err != nil {
			return nil, err
		}
		if len(name) > ggufMaxKey {
			return nil, fmt.Errorf("a tensor's name has %d bytes", len(name))
		}
		nDims, err := g.uint(4)
		if err != nil {
			return nil, err
		}
		if nDims > 4 {
			return nil, fmt.Errorf("tensor %.60q has %d dimensions", name, nDims)
		}
		t := ggufTensor{name: name, dims: make([]uint64, nDims)}
		for i := range t.dims {
			if t.dims[i], err = g.uint(8); err != nil {
				return nil, err
			}
		}
		kind, err := g.uint(4)
		if err != nil {
			return nil, err
		}
		t.kind = uint32(kind)
		if t.at, err = g.uint(8); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// fits refuses data behind the end of a file of so many bytes, as a download that was cut off has it.
func (t *ggufTensor) fits(size int64) error {
	block, n := native.TypeSize(t.kind)
	if block == 0 { // built without llama.cpp
		return nil
	}
	for i, d := range t.dims {
		if i == 0 && d%block != 0 {
			return fmt.Errorf("tensor %.60q has rows of %d weights: its type has blocks of %d", t.name, d, block)
		}
		if i == 0 {
			d /= block
		}
		var over uint64
		if over, n = bits.Mul64(n, d); over != 0 {
			return fmt.Errorf("tensor %.60q is larger than any file", t.name)
		}
	}
	if n > uint64(size) || t.at > uint64(size)-n {
		return t.outside()
	}
	return nil
}

func (t *ggufTensor) outside() error {
	return fmt.Errorf("tensor %.60q is not within the file bounds: incomplete download?", t.name)
}

// check refuses types for which llama.cpp has no operation.
func (t *ggufTensor) check() error {
	if int(t.kind) >= len(weightTypes) || !weightTypes[t.kind] {
		return fmt.Errorf("tensor %.60q has type %d, which weights cannot have", t.name, t.kind)
	}
	if t.kind == typeF32 {
		return nil
	}
	float := func(part string) bool { return strings.Contains(t.name, part) }
	if len(t.dims) <= 1 || !strings.HasSuffix(t.name, ".weight") || slices.ContainsFunc(floats, float) {
		return fmt.Errorf("tensor %.60q has type %d: want F32", t.name, t.kind)
	}
	return nil
}
