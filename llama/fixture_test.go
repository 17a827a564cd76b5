package llama_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A fixture is a GGUF file made here: a random-weight F32 model of a few kilobytes, whose decode takes microseconds, or a
// broken one.
type fixture struct {
	kv      []kv
	tensors []tensor
}

type kv struct {
	key   string
	value any // uint32, int32, uint64, float32, bool, string, []string, []float32, []int32
}

type tensor struct {
	name string
	dims []int
	one  bool // all ones instead of random: norms
}

const (
	fixtureEmbd, fixtureFF, fixtureHeads, fixtureCtx = 32, 64, 4, 512
	fixtureSpecials                                  = 3 + 256 // <unk> <s> </s> and the bytes
)

// fixtureVocab is a SentencePiece vocabulary: three special tokens, the bytes, two chat tokens and the printable characters.
func fixtureVocab() (tokens []string, scores []float32, types []int32) {
	add := func(text string, score float32, kind int32) {
		tokens, scores, types = append(tokens, text), append(scores, score), append(types, kind)
	}
	add("<unk>", 0, 2)
	add("<s>", 0, 3)
	add("</s>", 0, 3)
	for b := range 256 {
		add("<0x"+string("0123456789ABCDEF"[b>>4])+string("0123456789ABCDEF"[b&15])+">", 0, 6)
	}
	add("<|im_start|>", 0, 3)
	add("<|im_end|>", 0, 3)
	for c := '!'; c <= '~'; c++ {
		add(string(c), -float32(c), 1)
	}
	add("▁", -200, 1)
	return tokens, scores, types
}

func llamaFixture() *fixture {
	tokens, scores, types := fixtureVocab()
	f := &fixture{kv: []kv{
		{"general.architecture", "llama"},
		{"general.name", "fixture"},
		{"llama.context_length", uint32(fixtureCtx)},
		{"llama.embedding_length", uint32(fixtureEmbd)},
		{"llama.block_count", uint32(1)},
		{"llama.feed_forward_length", uint32(fixtureFF)},
		{"llama.attention.head_count", uint32(fixtureHeads)},
		{"llama.attention.head_count_kv", uint32(fixtureHeads)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(fixtureEmbd / fixtureHeads)},
		{"llama.vocab_size", uint32(len(tokens))},
		{"tokenizer.ggml.model", "llama"},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.scores", scores},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.bos_token_id", uint32(1)},
		{"tokenizer.ggml.eos_token_id", uint32(2)},
		{"tokenizer.ggml.unknown_token_id", uint32(0)},
		{"tokenizer.ggml.add_bos_token", true},
		{"tokenizer.ggml.add_eos_token", false},
		{"tokenizer.ggml.add_space_prefix", false},
	}}
	f.tensors = []tensor{
		{"token_embd.weight", []int{fixtureEmbd, len(tokens)}, false},
		{"output_norm.weight", []int{fixtureEmbd}, true},
		{"output.weight", []int{fixtureEmbd, len(tokens)}, false},
		{"blk.0.attn_norm.weight", []int{fixtureEmbd}, true},
		{"blk.0.attn_q.weight", []int{fixtureEmbd, fixtureEmbd}, false},
		{"blk.0.attn_k.weight", []int{fixtureEmbd, fixtureEmbd}, false},
		{"blk.0.attn_v.weight", []int{fixtureEmbd, fixtureEmbd}, false},
		{"blk.0.attn_output.weight", []int{fixtureEmbd, fixtureEmbd}, false},
		{"blk.0.ffn_norm.weight", []int{fixtureEmbd}, true},
		{"blk.0.ffn_gate.weight", []int{fixtureEmbd, fixtureFF}, false},
		{"blk.0.ffn_up.weight", []int{fixtureEmbd, fixtureFF}, false},
		{"blk.0.ffn_down.weight", []int{fixtureFF, fixtureEmbd}, false},
	}
	return f
}

// with replaces or adds a value; nil removes it.
func (f *fixture) with(key string, value any) *fixture {
	out := &fixture{tensors: f.tensors}
	for _, e := range f.kv {
		if e.key != key {
			out.kv = append(out.kv, e)
		}
	}
	if value != nil {
		out.kv = append(out.kv, kv{key, value})
	}
	return out
}

func (f *fixture) bytes() []byte {
	var b bytes.Buffer
	le := binary.LittleEndian
	u32 := func(n int) { _ = binary.Write(&b, le, uint32(n)) }
	u64 := func(n int) { _ = binary.Write(&b, le, uint64(n)) }
	str := func(s string) {
		u64(len(s))
		b.WriteString(s)
	}
	b.WriteString("GGUF")
	u32(3)
	u64(len(f.tensors))
	u64(len(f.kv))
	for _, e := range f.kv {
		str(e.key)
		switch v := e.value.(type) {
		case string:
			u32(8)
			str(v)
		case []string:
			u32(9)
			u32(8)
			u64(len(v))
			for _, s := range v {
				str(s)
			}
		case []float32:
			u32(9)
			u32(6)
			u64(len(v))
			_ = binary.Write(&b, le, v)
		case []int32:
			u32(9)
			u32(5)
			u64(len(v))
			_ = binary.Write(&b, le, v)
		default:
			u32(scalarType(v))
			_ = binary.Write(&b, le, v)
		}
	}
	offset := 0
	for _, t := range f.tensors {
		str(t.name)
		u32(len(t.dims))
		for _, d := range t.dims {
			u64(d)
		}
		u32(0) // F32
		u64(offset)
		offset += (t.size() + 31) / 32 * 32
	}
	pad := func() {
		for b.Len()%32 != 0 {
			b.WriteByte(0)
		}
	}
	pad()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, t := range f.tensors {
		for range t.size() / 4 {
			x := float32(1)
			if !t.one {
				x = rng.Float32()*0.4 - 0.2
			}
			_ = binary.Write(&b, le, x)
		}
		pad()
	}
	return b.Bytes()
}

func scalarType(v any) int {
	switch v.(type) {
	case uint32:
		return 4
	case int32:
		return 5
	case float32:
		return 6
	case bool:
		return 7
	case uint64:
		return 10
	default:
		panic("fixture: no such type")
	}
}

func (t tensor) size() int {
	n := 4
	for _, d := range t.dims {
		n *= d
	}
	return n
}

func (f *fixture) write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fixture.gguf")
	require.NoError(t, os.WriteFile(path, f.bytes(), 0o600))
	return path
}
