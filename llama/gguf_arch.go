package llama

import (
	"fmt"
	"slices"
	"strings"
)

// checkedArchs are the architectures whose sizes are checked against each other: those with attention that the oracle of the tests
// has gone through. Files of others can still end the process.
var checkedArchs = []string{"llama", "gemma3", "bert", "t5", "jamba", "lfm2", "qwen3"}

// checkArch refuses sizes that do not fit together and that llama.cpp finds out by an assertion, when it makes the tensors or
// the first graph.
func (h *hyperparams) checkArch() error {
	one := func(key string, standard int64) (n int64, single bool) {
		v, ok := h.kv[h.arch+"."+key]
		n, err := h.get(key, standard)
		return n, err == nil && (!ok || v.kind != ggufArray)
	}
	width, _ := one("embedding_length", 0)
	heads, plain := one("attention.head_count", 0)
	checked := slices.Contains(checkedArchs, h.arch)
	if ff, _ := one("feed_forward_length", 0); checked && ff == 0 {
		return fmt.Errorf("%s.feed_forward_length is 0", h.arch)
	}
	if checked && heads == 0 {
		return fmt.Errorf("%s.attention.head_count is 0", h.arch)
	}
	if plain && heads > 0 {
		key, _ := one("attention.key_length", width/heads)
		value, _ := one("attention.value_length", width/heads)
		if _, given := h.kv[h.arch+".attention.key_length"]; checked && width%heads != 0 && !given {
			return fmt.Errorf("%s.embedding_length is %d, which %d heads do not divide", h.arch, width, heads)
		}
		_, rotated := h.kv[h.arch+".rope.dimension_count"]
		rotated = rotated || slices.Contains([]string{"llama", "gemma3", "lfm2", "qwen3"}, h.arch)
		if rot, _ := one("rope.dimension_count", key); rotated && (rot < 2 || rot > key || rot%2 != 0) {
			return fmt.Errorf("%s.rope.dimension_count is %d: want an even number from 2 to the heads' %d", h.arch, rot, key)
		} else if h.arch == "qwen3" && rot != key {
			return fmt.Errorf("qwen3.rope.dimension_count is %d: want the heads' %d", rot, key)
		}
		switch h.arch {
		case "bert":
			if key*heads != width {
				return fmt.Errorf("bert.attention.key_length is %d, and %d heads: want the embedding_length of %d together", key, heads, width)
			}
			if key != value {
				return fmt.Errorf("bert.attention.key_length is %d, and value_length %d", key, value)
			}
		case "jamba":
			if key != width/heads || value != key {
				return fmt.Errorf("%s.attention.key_length is %d and value_length %d: want %d", h.arch, key, value, width/heads)
			}
		default:
			if checked && key != value {
				return fmt.Errorf("%s.attention.key_length is %d, and value_length %d", h.arch, key, value)
			}
		}
	}
	if err := h.checkHeads(); err != nil {
		return err
	}
	if window, _ := one("attention.sliding_window", 0); window > 0 {
		layers, _ := one("block_count", 1)
		if !h.someWindow(layers) {
			return fmt.Errorf("%s.attention.sliding_window is %d, and the pattern says of no layer that it has one", h.arch, window)
		}
	}
	for key, least := range map[string]int64{"ssm.conv_kernel": 1, "ssm.inner_size": 1, "ssm.state_size": 1, "ssm.time_step_rank": 1, "shortconv.l_cache": 2} {
		if n, _ := one(key, least); n < least {
			return fmt.Errorf("%s.%s is %d: want at least %d", h.arch, key, n, least)
		}
	}
	if v, ok := h.kv["lfm2.attention.causal"]; ok && h.arch == "lfm2" && v.n == 0 {
		if n, _ := one("shortconv.l_cache", 0); n%2 == 0 { // a window around a token has a middle
			return fmt.Errorf("lfm2.shortconv.l_cache is %d without causal attention: want an odd number", n)
		}
	}
	projects := func(t ggufTensor) bool { return strings.HasPrefix(t.name, "dense_") }
	if out, _ := one("embedding_length_out", width); out < 0 || out > width && !slices.ContainsFunc(h.tensors, projects) {
		return fmt.Errorf("%s.embedding_length_out is %d: want at most %d", h.arch, out, width)
	}
	if h.arch == "t5" || h.arch == "t5encoder" {
		// The logarithmic half of the buckets reaches to position 128.
		if n, _ := one("attention.relative_buckets_count", 32); n < 4 || n > 128 {
			return fmt.Errorf("%s.attention.relative_buckets_count is %d: want 4 to 128", h.arch, n)
		}
		for _, side := range []string{"enc", "dec"} {
			bias := side + ".blk.0.attn_rel_b.weight"
			named := func(t ggufTensor) bool { return t.name == bias }
			if (side == "enc" || h.arch == "t5") && !slices.ContainsFunc(h.tensors, named) {
				return fmt.Errorf("there is no tensor %s", bias)
			}
		}
	}
	if inner, _ := one("ssm.inner_size", 2*width); h.arch == "jamba" && inner != 2*width {
		return fmt.Errorf("jamba.ssm.inner_size is %d: want %d", inner, 2*width)
	}
	return nil
}

// someWindow says whether the pattern of sliding windows, where there is one, gives one to any layer.
func (h *hyperparams) someWindow(layers int64) bool {
	v, ok := h.kv[h.arch+".attention.sliding_window_pattern"]
	switch {
	case !ok:
		return true
	case v.kind == ggufArray && v.elem == ggufBool:
		for _, windowed := range v.bools[:min(int64(len(v.bools)), layers)] {
			if windowed {
				return true
			}
		}
		return false
	case v.kind == ggufArray:
		return slices.ContainsFunc(v.ints[:min(int64(len(v.ints)), layers)], func(n int64) bool { return n != 0 })
	default: // every n-th layer has none
		return v.n != 1
	}
}

// checkHeads: groups of heads share one of the cache, of each layer.
func (h *hyperparams) checkHeads() error {
	heads, shared := h.kv[h.arch+".attention.head_count"], h.kv[h.arch+".attention.head_count_kv"]
	hybrid := h.arch == "jamba" || h.arch == "lfm2"
	checked := slices.Contains(checkedArchs, h.arch)
	if checked && heads.kind == ggufArray && len(heads.ints) > 0 && slices.Max(heads.ints) != slices.Min(heads.ints) {
		return fmt.Errorf("%s.attention.head_count is not the same for all layers", h.arch)
	}
	if checked && !hybrid {
		if shared.kind == ggufArray && len(shared.ints) > 0 && slices.Max(shared.ints) != slices.Min(shared.ints) {
			return fmt.Errorf("%s.attention.head_count_kv is not the same for all layers", h.arch)
		}
		if n, err := h.get("attention.head_count_kv", 1); err == nil && n == 0 {
			return fmt.Errorf("%s.attention.head_count_kv is 0", h.arch)
		}
	}
	for i := range max(1, len(heads.ints), len(shared.ints)) {
		at := func(v ggufValue) int64 {
			if v.kind != ggufArray {
				return v.n
			}
			if i < len(v.ints) {
				return v.ints[i]
			}
			return 0
		}
		n, kv := at(heads), at(shared)
		if kv > 0 && n%kv != 0 {
			return fmt.Errorf("%s.attention.head_count_kv is %d, which does not divide the %d heads", h.arch, kv, n)
		}
		if kv > 0 && n != kv && strings.HasPrefix(h.arch, "t5") { // its queries have the keys' size
			return fmt.Errorf("%s.attention.head_count_kv is %d: want the %d of the heads", h.arch, kv, n)
		}
	}
	return nil
}
