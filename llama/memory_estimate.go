package llama

import (
	"fmt"
	"strconv"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// kvBits are the bits per value of a KV cache, rounded down.
var kvBits = map[KVType]uint64{KVF16: 16, KVF32: 32, KVBF16: 16, KVQ8_0: 8, KVQ5_1: 5, KVQ5_0: 5, KVQ4_1: 4, KVQ4_0: 4}

// checkMemory refuses a KV cache that is larger than all memory there is: the system grants such an allocation and kills the
// process when llama.cpp clears it. It knows plain attention only; for the rest it is silent.
func (p ContextParams) checkMemory(m *Model, nCtx uint32) error {
	number := func(key string, standard int32) uint64 {
		n, err := strconv.ParseUint(m.meta[m.meta["general.architecture"]+"."+key], 10, 32)
		if err != nil {
			return uint64(standard)
		}
		return n
	}
	if m.info.NHead <= 0 || m.info.IsRecurrent || m.info.IsHybrid || m.info.NSWA > 0 || number("attention.kv_lora_rank", 0) > 0 {
		return nil
	}
	heads := number("attention.head_count_kv", 1)
	width := m.info.NEmbd / m.info.NHead
	bits := number("attention.key_length", width)*kvBits[p.TypeK] + number("attention.value_length", width)*kvBits[p.TypeV]
	need := uint64(nCtx) * uint64(m.info.NLayer) * heads * bits / 8
	var have uint64
	for _, d := range native.Devices() {
		have += d.MemoryTotal
	}
	if have > 0 && need > have {
		return &ErrInsufficientMemory{What: "context", Text: fmt.Sprintf("a KV cache of %d positions needs %d MiB, the machine has %d: lower NCtx", nCtx, need>>20, have>>20)}
	}
	return nil
}
