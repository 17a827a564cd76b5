package llama

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// adapterHead is what the metadata of an adapter's file say.
type adapterHead struct {
	rank       uint64
	alpha      float32
	activated  bool // aLoRA
	embeddings bool // it changes the token embeddings
}

const mostRank = 1 << 16

// adapterTypes are the types that llama.cpp's converter gives an adapter's matrices: F32, F16, Q8_0, BF16.
var adapterTypes = []uint32{typeF32, 1, 8, 30}

// readAdapter reads the head of an adapter's file for a model of an architecture, and refuses what llama.cpp would abort the
// process for. Whether the model has the tensors, and the sizes in which they differ, llama.cpp says.
func readAdapter(r io.Reader, size int64, arch string, model map[string]string) (head adapterHead, err error) {
	kv, tensors, err := readGGUF(r, size)
	if err != nil {
		return head, err
	}
	for _, want := range [][2]string{{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", arch}} {
		switch v, ok := kv[want[0]]; {
		case !ok || v.kind != ggufString:
			return head, fmt.Errorf("%s is missing: want %q", want[0], want[1])
		case v.s != want[1]:
			return head, fmt.Errorf("%s is %.40q: want %q", want[0], v.s, want[1])
		}
	}
	if v, ok := kv["general.alignment"]; ok && (v.kind != ggufU32 || v.n < ggufAlignment || v.n > 1<<20 || v.n&(v.n-1) != 0) {
		return head, fmt.Errorf("general.alignment is %d: want a power of two from %d on", v.n, ggufAlignment)
	}
	if v, ok := kv["adapter.lora.alpha"]; ok {
		head.alpha = math.Float32frombits(uint32(v.n))
		if v.kind != ggufF32 || math.IsNaN(float64(head.alpha)) || math.IsInf(float64(head.alpha), 0) {
			return head, fmt.Errorf("adapter.lora.alpha is not a finite 32-bit float")
		}
	}
	_, head.activated = kv["adapter.alora.invocation_tokens"]
	experts, _ := strconv.ParseUint(model[arch+".expert_count"], 10, 32)
	pairs := map[string][2]*ggufTensor{}
	for i := range tensors {
		t := &tensors[i]
		name, half := strings.TrimSuffix(t.name, ".lora_a"), 0
		if name == t.name {
			name, half = strings.TrimSuffix(t.name, ".lora_b"), 1
		}
		switch {
		case name == t.name && strings.HasSuffix(name, "_norm.weight"):
			continue // llama.cpp leaves it out
		case name == t.name:
			return head, fmt.Errorf("tensor %.60q is neither a .lora_a nor a .lora_b", t.name)
		}
		if err := t.checkAdapter(name, experts); err != nil {
			return head, err
		}
		pair := pairs[name]
		pair[half] = t
		pairs[name] = pair
	}
	if len(pairs) == 0 {
		return head, fmt.Errorf("it changes no tensor")
	}
	for name, pair := range pairs {
		a, b := pair[0], pair[1]
		if a == nil || b == nil {
			return head, fmt.Errorf("%.60q has a .lora_a or a .lora_b, and not both", name)
		}
		rank := a.dims[1]
		if strings.HasSuffix(name, "token_embd.weight") {
			head.embeddings, rank = true, a.dims[0]
		}
		if rank != b.dims[0] || rank < 1 || rank > mostRank || !slices.Equal(a.dims[2:], b.dims[2:]) {
			return head, fmt.Errorf("the matrices of %.60q, %v and %v, do not fit each other", name, a.dims, b.dims)
		}
		head.rank = max(head.rank, rank)
	}
	return head, nil
}

// checkAdapter checks one matrix, or a stack of them with one for each expert.
func (t *ggufTensor) checkAdapter(name string, experts uint64) error {
	if !slices.Contains(adapterTypes, t.kind) {
		return fmt.Errorf("tensor %.60q has type %d: want F32, F16, BF16 or Q8_0", t.name, t.kind)
	}
	stacked := strings.Contains(name, "_exps.")
	switch {
	case stacked && (len(t.dims) != 3 || t.dims[2] != experts):
		return fmt.Errorf("tensor %.60q is %v: want a matrix for each of %d experts", t.name, t.dims, experts)
	case !stacked && len(t.dims) != 2:
		return fmt.Errorf("tensor %.60q is %v: want a matrix", t.name, t.dims)
	}
	return nil
}
