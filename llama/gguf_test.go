package llama_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestLoadModelRefusesFiles(t *testing.T) {
	good := fixture.Llama(1).Bytes()
	patch := func(at int, v uint64, size int) []byte {
		b := append([]byte(nil), good...)
		var full [8]byte
		binary.LittleEndian.PutUint64(full[:], v)
		copy(b[at:at+size], full[:size])
		return b
	}
	for _, tt := range []struct {
		name, text string
		data       []byte
	}{
		{"empty", "only 0 bytes", nil},
		{"magic", "does not begin with GGUF", append([]byte("GGML"), good[4:]...)},
		{"version 1", "GGUF version 1", patch(4, 1, 4)},
		{"big endian", "GGUF version 50331648", patch(4, 3<<24, 4)},
		{"tensors", "claims", patch(8, 1<<40, 8)},
		{"values", "claims", patch(16, 1<<63, 8)},
		{"key length", "incomplete", patch(24, 1<<40, 8)},
		{"head cut", "incomplete", good[:300]},
		{"tensors cut", "not within the file bounds", good[:len(good)-64]},
		{"no values", "has 8 dimensions", patch(16, 0, 8)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			require.NoError(t, os.WriteFile(path, tt.data, 0o600))
			_, err := llama.LoadModel(context.Background(), path, llama.ModelParams{})
			for _, err := range []error{err, llama.Verify(path)} {
				require.ErrorIs(t, err, llama.ErrModelFormat)
				require.ErrorContains(t, err, tt.text)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		_, err := llama.LoadModel(context.Background(), "/nonexistent/model.gguf", llama.ModelParams{})
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("directory", func(t *testing.T) {
		_, err := llama.LoadModel(context.Background(), t.TempDir(), llama.ModelParams{})
		require.ErrorIs(t, err, llama.ErrModelFormat)
	})
	t.Run("NUL byte", func(t *testing.T) {
		_, err := llama.LoadModel(context.Background(), "a\x00b", llama.ModelParams{})
		require.ErrorIs(t, err, llama.ErrInvalidParam)
	})
}

// TestSplitModel: each part of a split model is looked at.
func TestSplitModel(t *testing.T) {
	whole := fixture.Llama(2)
	split := func(change func(second *fixture.File)) string {
		first, second := *whole, *whole
		first.Tensors, second.Tensors = whole.Tensors[:5], slices.Clone(whole.Tensors[5:])
		second.KV = nil
		parts := []*fixture.File{&first, &second}
		for i := range parts {
			parts[i] = parts[i].With("split.no", uint16(i)).With("split.count", uint16(2)).With("split.tensors.count", int32(len(whole.Tensors)))
		}
		if change != nil {
			change(parts[1])
		}
		dir := t.TempDir()
		for i, part := range parts {
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", i+1)), part.Bytes(), 0o600))
		}
		return filepath.Join(dir, "m-00001-of-00002.gguf")
	}
	m, err := llama.LoadModel(t.Context(), split(nil), llama.ModelParams{})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	for text, change := range map[string]func(*fixture.File){
		"not part 2":        func(f *fixture.File) { *f = *f.With("split.no", uint32(1)) }, // ended the process
		"general.alignment": func(f *fixture.File) { *f = *f.With("general.alignment", uint32(7)) },
		"not part 2 of":     func(f *fixture.File) { *f = *f.With("split.no", nil) },
	} {
		err := llama.Verify(split(change))
		require.ErrorIs(t, err, llama.ErrModelFormat, text)
		require.ErrorContains(t, err, text)
	}
	path := split(nil)
	second := strings.Replace(path, "-00001-", "-00002-", 1)
	info, err := os.Stat(second)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(second, info.Size()-64))
	require.ErrorContains(t, llama.Verify(path), "not within the file bounds")
	require.NoError(t, os.Remove(second))
	require.ErrorIs(t, llama.Verify(path), fs.ErrNotExist)
	renamed := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.Rename(path, renamed))
	require.ErrorContains(t, llama.Verify(renamed), "name the first one")
}

// headMutations are values that a broken or hostile file may have.
func headMutations() map[string]*fixture.File {
	base := fixture.Llama(1)
	out := map[string]*fixture.File{}
	for _, e := range base.KV {
		for _, v := range []any{nil, uint32(0), uint32(1), uint32(7), uint32(1 << 31), uint32(1<<32 - 1), int32(-1), uint64(1 << 63), float32(-1), true,
			"", "x", []string{"a", "a"}, []string{}, []float32{1}, []int32{-1, 0}} {
			out[fmt.Sprintf("%s=%T(%v)", e.Key, v, v)] = base.With(e.Key, v)
		}
	}
	for _, key := range []string{"expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count", "nextn_predict_layers",
		"attention.key_length", "attention.value_length", "attention.sliding_window", "attention.causal", "rope.scaling.factor",
		"rope.scaling.original_context_length", "rope.freq_base", "embedding_length_out", "pooling_type", "vocab_size", "attention.layer_norm_epsilon",
		"attention.q_lora_rank", "leading_dense_block_count", "tensor_data_layout", "attention.clamp_kqv", "logit_scale"} {
		for _, v := range []any{uint32(0), uint32(1), uint32(3), uint32(1<<32 - 1), int32(-1), float32(0), true, false, "x", []int32{1, 2, 3}} {
			out[fmt.Sprintf("llama.%s=%T(%v)", key, v, v)] = base.With("llama."+key, v)
		}
	}
	for _, v := range []string{"bert", "mamba", "gemma3", "t5", "rwkv6", "clip", "deepseek2", "qwen2vl", "jamba", "wavtokenizer-dec", "nonsense"} {
		out["general.architecture="+v] = base.With("general.architecture", v)
	}
	for _, v := range []string{"gpt2", "bert", "t5", "rwkv", "no_vocab", "none", "plamo2"} {
		f := base.With("tokenizer.ggml.model", v)
		out["tokenizer.ggml.model="+v] = f
		// special tokens that every text gets and that are not there
		f = f.With("tokenizer.ggml.merges", []string{"a b"}).With("tokenizer.ggml.pre", "smollm")
		for _, add := range []any{true, nil} {
			for _, id := range []any{uint32(1<<32 - 1), uint32(100_000), nil} {
				g := f
				for _, key := range []string{"bos", "eos", "seperator"} { //nolint:misspell // llama.cpp writes the key so
					g = g.With("tokenizer.ggml."+key+"_token_id", id).With("tokenizer.ggml.add_"+key[:3]+"_token", add)
				}
				out[fmt.Sprintf("tokenizer.ggml.model=%s specials=%v add=%v", v, id, add)] = g
			}
		}
	}
	for _, v := range []uint32{1, 2, 4, 8, 16, 32, 64, 3, 0, 1 << 31} {
		out[fmt.Sprint("alignment ", v)] = base.With("general.alignment", v)
	}
	tokens, _, _ := fixture.SentencePiece()
	nul, empty := slices.Clone(tokens), slices.Clone(tokens)
	nul[300] = "A\x00x"
	empty[300], empty[301], empty[302] = "", "", "[EMPTY_300]"
	out["NUL in a token"] = base.With("tokenizer.ggml.tokens", nul)
	out["empty tokens"] = base.With("tokenizer.ggml.tokens", empty)
	return out
}

func init() {
	children["heads"] = func() error {
		dir, err := os.MkdirTemp("", "heads")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		loaded, refused := 0, 0
		mutations := headMutations()
		for _, name := range slices.Sorted(maps.Keys(mutations)) {
			f := mutations[name]
			fmt.Println("try", name)
			path := filepath.Join(dir, "m.gguf")
			if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
				return err
			}
			m, err := llama.LoadModel(context.Background(), path, llama.ModelParams{})
			if err != nil {
				if !errors.Is(err, llama.ErrModelFormat) {
					return fmt.Errorf("%s: %w", name, err)
				}
				refused++
				continue
			}
			loaded++
			tryModel(m)
			if err := m.Close(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		fmt.Println("loaded", loaded, "refused", refused)
		return nil
	}
}

// tryModel uses a model whose file may lie; errors are right, aborts are not.
func tryModel(m *llama.Model) {
	_, _ = m.Vocab().Tokenize("", true, true)
	toks, err := m.Vocab().Tokenize("hello", true, true)
	if err != nil || len(toks) == 0 {
		toks = []llama.Token{1, 2, 3}
	}
	_, _ = m.Vocab().Detokenize(toks, true, true)
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, NThreads: 1})
	if err != nil {
		return
	}
	defer c.Close()
	b := llama.NewBatch(8)
	for i, t := range toks[:min(len(toks), 8)] {
		_, _ = b.Add(t, llama.Pos(i), 0, true)
	}
	_ = c.Encode(b) // where the model has both halves
	if e, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, NThreads: 1, Embeddings: true}); err == nil {
		_ = e.Decode(b)
		_ = e.Close()
	}
	s, err := llama.NewSampler(m, llama.DefaultSamplerParams())
	if err != nil {
		_ = c.Decode(b)
		return
	}
	defer s.Close()
	_ = c.DecodeSample(b, []llama.SampleRow{{Index: 0, Sampler: s}})
}

func TestHostileHeadsDoNotAbort(t *testing.T) {
	t.Log(lastLine(runChild(t, "heads", 5*time.Minute)))
}
