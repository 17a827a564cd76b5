package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestVerifyAccepts(t *testing.T) {
	for name, f := range verifySeeds() {
		require.NoError(t, llama.Verify(f.Write(t)), name)
	}
	for _, ref := range []string{"default", "gemma3-270m"} {
		path, err := modelPath(ref)
		require.NoError(t, err)
		require.NoError(t, llama.Verify(path))
	}
}

// Each of these ended the process once.
func TestVerifyRefuses(t *testing.T) {
	without := func(f *fixture.File, name string) *fixture.File {
		out := *f
		out.Tensors = nil
		for _, t := range f.Tensors {
			if t.Name != name {
				out.Tensors = append(out.Tensors, t)
			}
		}
		return &out
	}
	bert := fixture.BERT(fixture.PoolingMean)
	for _, tt := range []struct {
		text string
		file *fixture.File
	}{
		{"jamba.ssm.inner_size is 66: want 64", fixture.Jamba().With("jamba.ssm.inner_size", uint32(66))},
		{"jamba.attention.key_length is 34", fixture.Jamba().With("jamba.attention.key_length", uint32(34))},
		{"jamba.ssm.time_step_rank is 0", fixture.Jamba().With("jamba.ssm.time_step_rank", uint32(0))},
		{"jamba.attention.head_count is not the same", fixture.Jamba().With("jamba.attention.head_count", []int32{4, 100})},
		{"says of no layer", fixture.Gemma3().With("gemma3.attention.sliding_window_pattern", []bool{false})},
		{"says of no layer", fixture.Gemma3().With("gemma3.attention.sliding_window_pattern", uint32(1))},
		{"says of no layer", fixture.Gemma3().With("gemma3.attention.sliding_window_pattern", []int32{})},
		{"rope.dimension_count is 512", fixture.Gemma3().With("gemma3.rope.dimension_count", uint32(512))},
		{"rope.dimension_count is 0", fixture.Gemma3().With("gemma3.rope.dimension_count", uint32(0))},
		{"head_count_kv is not the same", fixture.Gemma3().With("gemma3.attention.head_count_kv", []int32{4, 36})},
		{"head_count_kv is 3, which does not divide the 4", fixture.Llama(1).With("llama.attention.head_count_kv", uint32(3))},
		{"head_count_kv is 2: want the 4 of the heads", fixture.T5().With("t5.attention.head_count_kv", uint32(2))},
		{"head_count_kv is 0", fixture.Llama(1).With("llama.attention.head_count_kv", uint32(0))},
		{"head_count is 0", fixture.Llama(1).With("llama.attention.head_count", nil)},
		{"feed_forward_length is 0", fixture.MoE().With("llama.feed_forward_length", nil)},
		{"embedding_length_out is 65536", fixture.Llama(1).With("llama.embedding_length_out", uint32(65536))},
		{"embedding_length_out is 33", fixture.Mamba().With("mamba.embedding_length_out", uint32(33))},
		{"embedding_length is 17", bert.With("bert.embedding_length", uint32(17))},
		{"relative_buckets_count is 2", fixture.T5().With("t5.attention.relative_buckets_count", uint32(2))},
		{"no tensor enc.blk.0.attn_rel_b.weight", without(fixture.T5(), "enc.blk.0.attn_rel_b.weight")},
		{"rope.dimension_count is 25", fixture.LFM2().With("lfm2.embedding_length", uint32(100))},
		{"shortconv.l_cache is 1", fixture.LFM2().With("lfm2.shortconv.l_cache", uint32(1))},
		{"shortconv.l_cache is 8 without", fixture.LFM2().With("lfm2.shortconv.l_cache", uint32(8)).With("lfm2.attention.causal", false)},
		{"bert.attention.key_length is 2, and 4 heads", bert.With("bert.attention.key_length", uint32(2))},
		{"rope.dimension_count is 4: want the heads' 8", fixture.CausalReranker().With("qwen3.rope.dimension_count", uint32(4))},
	} {
		err := llama.Verify(tt.file.Write(t))
		require.ErrorIs(t, err, llama.ErrModelFormat, tt.text)
		require.ErrorContains(t, err, tt.text)
	}
}
