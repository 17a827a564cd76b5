package llama_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// notes say what was done to a file.
type notes []string

func (n *notes) add(format string, args ...any) { *n = append(*n, fmt.Sprintf(format, args...)) }

// mutant changes a file at random: its values and its tensors.
func mutant(r *rand.Rand, f *fixture.File, did *notes) *fixture.File {
	arch, _ := f.KV[0].Value.(string)
	for range r.IntN(4) {
		f = mutateValue(r, arch, f, did.add)
	}
	for range r.IntN(2) {
		f = mutateTensor(r, f, did.add)
	}
	return f
}

var wrongShape = regexp.MustCompile(`tensor '([^']+)' has wrong shape; expected ([0-9, ]+), got`)

// repaired gives a tensor the shape that llama.cpp has asked for: a file whose sizes are odd and fit together gets further.
func repaired(f *fixture.File, why string) (*fixture.File, bool) {
	m := wrongShape.FindStringSubmatch(why)
	if m == nil {
		return f, false
	}
	var dims []int
	total := 1
	for _, field := range strings.Split(m[2], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return f, false
		}
		dims = append(dims, n)
		total *= n
		if total > 1<<18 {
			return f, false
		}
	}
	out := *f
	out.Tensors = slices.Clone(f.Tensors)
	i := slices.IndexFunc(out.Tensors, func(t fixture.Tensor) bool { return t.Name == m[1] })
	if i < 0 {
		return f, false
	}
	out.Tensors[i].Dims = dims
	return &out, true
}

func oneOf[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func oddInt(r *rand.Rand) uint32 {
	if r.IntN(2) == 0 {
		return uint32(r.IntN(80))
	}
	return oneOf[uint32](r, 0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 64, 100, 255, 256, 257, 359, 360, 512, 1024, 4096, 65535, 65536, 1<<20, 1<<24, 1<<30, 1<<31-1, 1<<31, 1<<32-1)
}

func oddFloat(r *rand.Rand) float32 {
	return oneOf[float32](r, 0, 1, -1, 0.5, 1e-5, 1e-45, 1e38, -1e38, 10000, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()))
}

func oddValue(r *rand.Rand, old any) any {
	if r.IntN(8) == 0 {
		return oneOf[any](r, oddInt(r), oddFloat(r), "x", true, false, uint64(oddInt(r))<<r.IntN(33), int32(oddInt(r)), []string{"a"}, []string{}, []int32{int32(oddInt(r))}, []float32{oddFloat(r)}, []bool{true})
	}
	switch v := old.(type) {
	case uint32:
		if r.IntN(3) == 0 {
			return v + oneOf[uint32](r, 1, 1<<32-1, 2, 8)
		}
		return oddInt(r)
	case int32:
		return int32(oddInt(r))
	case float32:
		return oddFloat(r)
	case bool:
		return !v
	case string:
		return oneOf(r, "", "x", strings.Repeat("y", 1<<r.IntN(17)), "\x00", "\xff", "llama", "gpt2", "bert", "t5", "rwkv", "none", "yarn", "linear", "longrope", "default", "smollm", "qwen2", "{{ bos_token }}")
	case []string:
		out := append([]string{}, v...)
		switch r.IntN(5) {
		case 0:
			return out[:r.IntN(len(out)+1)]
		case 1:
			return append(out, "more", strings.Repeat("z", 1<<r.IntN(12)))
		}
		for range 1 + r.IntN(3) {
			if len(out) > 0 {
				out[r.IntN(len(out))] = oneOf(r, "", " ", "a b", "\xff\xfe", "\x00", "<0x41>", "<0xZZ>", "▁", "<s>", "</s>", strings.Repeat("w", 300), "[EMPTY_3]", "<|im_end|>", "a", "<0x0A>", "\n")
			}
		}
		return out
	case []int32:
		out := append([]int32{}, v...)
		if r.IntN(4) == 0 {
			return out[:r.IntN(len(out)+1)]
		}
		for range 1 + r.IntN(3) {
			if len(out) > 0 {
				out[r.IntN(len(out))] = int32(oddInt(r))
			}
		}
		return out
	case []float32:
		out := append([]float32{}, v...)
		if r.IntN(4) == 0 {
			return out[:r.IntN(len(out)+1)]
		}
		for i := range out {
			if r.IntN(20) == 0 {
				out[i] = oddFloat(r)
			}
		}
		return out
	case []bool:
		return oneOf[any](r, []bool{}, []bool{true, true, true}, []bool{false}, append([]bool{true}, v...))
	}
	return nil
}

// verifyKeys are keys that llama.cpp knows and the fixtures lack; %s is the architecture.
var verifyKeys = []string{
	"%s.vocab_size", "%s.features_length", "%s.embedding_length_out", "%s.leading_dense_block_count", "%s.expert_feed_forward_length", "%s.use_parallel_residual",
	"%s.expert_count", "%s.expert_used_count", "%s.expert_shared_count", "%s.expert_group_count", "%s.expert_group_used_count", "%s.expert_weights_scale", "%s.expert_weights_norm",
	"%s.expert_gating_func", "%s.nextn_predict_layers", "%s.pooling_type", "%s.logit_scale", "%s.decoder_start_token_id", "%s.decoder_block_count",
	"%s.attn_logit_softcapping", "%s.final_logit_softcapping", "%s.rescale_every_n_layers", "%s.time_mix_extra_dim", "%s.wkv.head_size", "%s.token_shift_count",
	"%s.interleave_moe_layer_step", "%s.attention.head_count", "%s.attention.head_count_kv", "%s.attention.max_alibi_bias", "%s.attention.clamp_kqv", "%s.attention.key_length",
	"%s.attention.value_length", "%s.attention.group_norm_epsilon", "%s.attention.group_norm_groups", "%s.attention.causal", "%s.attention.q_lora_rank",
	"%s.attention.kv_lora_rank", "%s.attention.relative_buckets_count", "%s.attention.sliding_window", "%s.attention.sliding_window_pattern", "%s.attention.scale",
	"%s.attention.key_length_mla", "%s.attention.value_length_mla", "%s.rope.dimension_count", "%s.rope.dimension_sections", "%s.rope.freq_base", "%s.rope.scale_linear",
	"%s.rope.scaling.type", "%s.rope.scaling.factor", "%s.rope.scaling.attn_factor", "%s.rope.scaling.original_context_length", "%s.rope.scaling.finetuned",
	"%s.rope.scaling.yarn_log_multiplier", "%s.ssm.conv_kernel", "%s.ssm.inner_size", "%s.ssm.state_size", "%s.ssm.time_step_rank", "%s.ssm.group_count", "%s.ssm.dt_b_c_rms",
	"%s.tensor_data_layout", "%s.convnext.embedding_length", "%s.classifier.output_labels", "%s.shortconv.l_cache", "%s.swin_norm", "%s.embedding_scale", "%s.residual_scale",
	"tokenizer.ggml.pre", "tokenizer.ggml.merges", "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token",
	"tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.token_type_count", "tokenizer.ggml.bos_token_id",
	"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
	"tokenizer.ggml.cls_token_id", "tokenizer.ggml.mask_token_id", "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id", "tokenizer.chat_template",
	"general.alignment", "general.type", "general.file_type", "general.quantization_version", "split.count", "split.no", "split.tensors.count",
}

func mutateValue(r *rand.Rand, arch string, f *fixture.File, note func(string, ...any)) *fixture.File {
	var key string
	var old any
	if r.IntN(3) == 0 {
		key = strings.ReplaceAll(oneOf(r, verifyKeys...), "%s", arch)
		old = oneOf[any](r, uint32(1), uint32(1), float32(1), true, "x", []int32{1, 1}, []string{"a b", "b c"})
	} else {
		i := r.IntN(len(f.KV))
		key, old = f.KV[i].Key, f.KV[i].Value
	}
	if key == "general.architecture" && r.IntN(10) > 0 {
		return f
	}
	v := oddValue(r, old)
	if r.IntN(10) == 0 {
		v = nil
	}
	text := fmt.Sprintf("%T(%v)", v, v)
	note("%s=%.80s", key, text)
	return f.With(key, v)
}

func mutateTensor(r *rand.Rand, f *fixture.File, note func(string, ...any)) *fixture.File {
	out := *f
	out.Tensors = append([]fixture.Tensor{}, f.Tensors...)
	i := r.IntN(len(out.Tensors))
	t := out.Tensors[i]
	switch r.IntN(5) {
	case 0:
		note("without %s", t.Name)
		out.Tensors = append(out.Tensors[:i], out.Tensors[i+1:]...)
	case 1:
		other := out.Tensors[r.IntN(len(out.Tensors))].Name
		note("%s named %s", t.Name, other)
		out.Tensors[i].Name = other
	case 2:
		t.Dims = append([]int{}, t.Dims...)
		d := r.IntN(len(t.Dims))
		t.Dims[d] = oneOf(r, 0, 1, t.Dims[d]+1, t.Dims[d]-1, t.Dims[d]*2, t.Dims[d]/2, 32, 64)
		t.Dims[d] = max(t.Dims[d], 0)
		note("%s has %v", t.Name, t.Dims)
		out.Tensors[i] = t
	case 3:
		t.Dims = append([]int{}, t.Dims...)
		if r.IntN(2) == 0 && len(t.Dims) > 1 {
			t.Dims = t.Dims[1:]
		} else if len(t.Dims) < 4 {
			t.Dims = append(t.Dims, 1)
		}
		note("%s has %v", t.Name, t.Dims)
		out.Tensors[i] = t
	default:
		extra := oneOf(r, "rope_freqs.weight", "rope_factors_long.weight", "output.bias", "blk.0.attn_q.bias", "blk.0.attn_qkv.weight", "blk.0.attn_q.scale", "cls.weight", "token_types.weight",
			"blk.0.attn_sinks.weight", "blk.0.ffn_gate_exps.weight", "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_shexp.weight", "blk.1.attn_q.weight", "blk.99.attn_q.weight", "x")
		dims := [][]int{{fixture.NEmbd}, {fixture.NEmbd, fixture.NEmbd}, {4}, {1}, {fixture.NFF, fixture.NEmbd}, {fixture.NEmbd, fixture.NFF, 4}}[r.IntN(6)]
		note("with %s %v", extra, dims)
		out.Tensors = append(out.Tensors, fixture.Tensor{Name: extra, Dims: dims})
	}
	return &out
}

// mutateBytes changes numbers in the head, most of them in the table of tensors.
func mutateBytes(r *rand.Rand, b []byte, note func(string, ...any)) []byte {
	b = bytes.Clone(b)
	table := max(24, bytes.Index(b, []byte("token_embd.weight"))-8)
	head := min(len(b)-8, table+4000)
	for range 1 + r.IntN(4) {
		from := table
		if r.IntN(4) == 0 {
			from = 0
		}
		at := from + r.IntN(head-from)
		switch r.IntN(6) {
		case 0:
			binary.LittleEndian.PutUint32(b[at:], oddInt(r))
		case 1:
			binary.LittleEndian.PutUint64(b[at:], uint64(oddInt(r))<<r.IntN(33))
		case 2:
			b[at] ^= 1 << r.IntN(8)
		case 3: // the type or the offset after a name and its dimensions
			if i := bytes.Index(b[at:head], []byte(".weight")); i >= 0 {
				at += i + len(".weight") + 4 + 8*(1+r.IntN(2))
				binary.LittleEndian.PutUint32(b[at:], uint32(r.IntN(42)))
			}
		case 4:
			b = b[:at+r.IntN(len(b)-at)]
			note("cut at %d", len(b))
			return b
		default:
			b[at] = byte(r.IntN(256))
		}
		note("bytes at %d", at)
	}
	return b
}
