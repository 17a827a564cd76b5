package llama

import "github.com/lm-sandbox/lm-sandbox/llama/internal/native"

// Values of [ModelParams.NGPULayers] beside a number of layers.
const (
	Auto      = 0  // as many as fit beside ModelParams.Context; none where there is no GPU
	AllLayers = -1 // every layer, or an error
	NoLayers  = -2 // CPU only: no GPU is used at all
)

// LoadMode says how a model file is brought into memory (llama_load_mode).
type LoadMode int

// Load modes; the zero value lets llama.cpp choose.
const (
	LoadAuto     LoadMode = iota // memory mapping, unless a device cannot
	LoadRead                     // read into allocated memory
	LoadMMap                     // memory mapping
	LoadMLock                    // read and locked against swapping
	LoadMMapLock                 // memory mapping, locked against swapping
	LoadDirectIO                 // direct I/O where the file system has it
)

// FlashAttn says when attention is computed by the fused kernel (llama_flash_attn_type).
type FlashAttn int

// Flash attention; the zero value lets llama.cpp choose per device.
const (
	FlashAttnAuto FlashAttn = iota
	FlashAttnOn
	FlashAttnOff
)

// KVType is the data type of the KV cache (ggml_type).
type KVType int

// KV cache types; the zero value is F16. A quantised V cache needs flash attention.
const (
	KVF16 KVType = iota
	KVF32
	KVBF16
	KVQ8_0
	KVQ5_1
	KVQ5_0
	KVQ4_1
	KVQ4_0
)

var ggmlTypes = map[KVType]int32{KVF16: 1, KVF32: 0, KVBF16: 30, KVQ8_0: 8, KVQ5_1: 7, KVQ5_0: 6, KVQ4_1: 3, KVQ4_0: 2}

func (t KVType) quantised() bool { return t >= KVQ8_0 }

// ModelParams says how to load a model. The zero value is sensible.
type ModelParams struct {
	// NGPULayers is a number of layers to keep on GPUs, or Auto, AllLayers, NoLayers.
	NGPULayers int
	// Progress is called on the goroutine that loads, with a fraction from 0 to 1. A panic in it ends the load with an error.
	// It must not load or plan a model itself.
	Progress func(fraction float32)
	// Context is the context that the model is loaded for. Auto leaves room for it, a NCtx of 0 is lowered to what fits, to 4096
	// at the least (or n_ctx_train, where that is less), and the load is refused where model and context do not fit.
	Context ContextParams
	// Preflight is asked what to say to the need of model and Context, as [EstimateMemory] gives it, before anything is loaded
	// and before it is compared with what is free; nil = nobody is. Its error ends the load and is what LoadModel returns. It
	// is not asked where llama.cpp cannot tell the need.
	Preflight func(MemoryNeed) error
	// LoadMode says how the file is brought into memory.
	LoadMode LoadMode
	// CheckTensors validates every tensor's data; slower.
	CheckTensors bool
	// NThreads is how many threads of contexts compute at once, where these take turns ([Context.TakeTurn]); 0 = the physical
	// cores, -1 = any number. A single context has its own NThreads in any case.
	NThreads int
	// VocabOnly loads no tensors: the model is for tokens, chat templates and grammars, and no Context can be made of it.
	// NGPULayers, Context and Preflight are not looked at.
	VocabOnly bool
	// SplitMode says how several GPUs share the model.
	SplitMode SplitMode
	// TensorSplit is the share of each GPU, in any unit, in the order of Devices; none = as memory allows. With it, and with
	// SplitRow, Auto means AllLayers.
	TensorSplit []float32
	// MainGPU is the index in Devices of the GPU that has all of the model with SplitNone.
	MainGPU int
	// Devices are the names of the GPUs to use, as [Devices] tells them, such as "CUDA1"; none = all.
	Devices []string
	// Tune loads the file that [Tune] finds to be the fastest one, and tunes at the first time; nil = the file as it is.
	// [Model.Path] tells which one it was. It is for the CPU: with a GPU NGPULayers must be NoLayers.
	Tune *TuneParams
}

// ContextParams says how to make a context. The zero value has the defaults of llama.cpp's tools; what the context was
// really made with (llama.cpp pads and clamps) is told by its methods.
type ContextParams struct {
	NCtx          int // positions over all sequences; 0 = n_ctx_train, or what LoadModel found to fit for ModelParams.Context
	NBatch        int // most tokens of one Decode; 0 = 2048
	NUBatch       int // most tokens computed at once; 0 = 512
	NSeqMax       int // sequences, at most 256; 0 = 1
	NOutputsMax   int // most tokens with logits in one Decode; 0 = NBatch. A small number saves memory for large vocabularies.
	NThreads      int // threads for one token; 0 = the physical cores
	NThreadsBatch int // threads for more than one token; 0 = NThreads
	FlashAttn     FlashAttn
	// KVUnified keeps all sequences in one stream: any of them may use all of NCtx and SeqCopy of a part is free. Otherwise
	// each sequence has NCtx/NSeqMax positions of its own.
	KVUnified bool
	// SWAFull keeps all positions of sliding-window layers instead of the window alone.
	SWAFull      bool
	TypeK, TypeV KVType
	// Embeddings makes a context for embeddings instead of logits: every token of a batch has one.
	Embeddings  bool
	PoolingType PoolingType // with Embeddings
	// NoKVOffload keeps the KV cache in main memory, and what is computed on it on the CPU (offload_kqv = false).
	NoKVOffload bool
	// NoOpOffload computes what lies in main memory on the CPU only, large batches too (op_offload = false).
	NoOpOffload bool
	Pool        ThreadPool
}

// native checks the parameters and fills in the defaults, NCtx's being nCtx.
func (p ContextParams) native(nCtx int, hasEncoder bool) (native.ContextParams, error) {
	var np native.ContextParams
	const most = 1 << 30
	for _, f := range []struct {
		name     string
		v        int
		standard int
		to       *uint32
	}{
		{"NCtx", p.NCtx, nCtx, &np.NCtx},
		{"NBatch", p.NBatch, 2048, &np.NBatch},
		{"NUBatch", p.NUBatch, 512, &np.NUBatch},
		{"NSeqMax", p.NSeqMax, 1, &np.NSeqMax},
		{"NOutputsMax", p.NOutputsMax, 0, &np.NOutputsMax},
	} {
		if f.v < 0 || f.v > most {
			return np, errorf(ErrInvalidParam, "%s = %d: want 0 to %d", f.name, f.v, most)
		}
		if f.v == 0 {
			f.v = f.standard
		}
		*f.to = uint32(f.v)
	}
	if np.NSeqMax > 256 {
		return np, errorf(ErrInvalidParam, "NSeqMax = %d: llama.cpp has at most 256 sequences", np.NSeqMax)
	}
	// llama.cpp makes room for one output per sequence, and aborts where it may not
	batch := min(np.NBatch, np.NCtx)
	if np.NOutputsMax == 0 || hasEncoder {
		np.NOutputsMax = batch
	}
	if p.Embeddings {
		np.NOutputsMax = np.NBatch
	}
	if np.NOutputsMax < np.NSeqMax {
		return np, errorf(ErrInvalidParam, "NSeqMax = %d needs NCtx, NBatch and NOutputsMax of as many; they are %d, %d and %d",
			np.NSeqMax, np.NCtx, np.NBatch, np.NOutputsMax)
	}
	if p.NThreads < 0 || p.NThreads > mostThreads || p.NThreadsBatch < 0 || p.NThreadsBatch > mostThreads {
		return np, errorf(ErrInvalidParam, "NThreads = %d, NThreadsBatch = %d: want 0 to %d", p.NThreads, p.NThreadsBatch, mostThreads)
	}
	np.NThreads, np.NThreadsBatch = int32(p.NThreads), int32(p.NThreadsBatch)
	if np.NThreads == 0 {
		np.NThreads = int32(native.NThreadsDefault())
	}
	if np.NThreadsBatch == 0 {
		np.NThreadsBatch = np.NThreads
	}
	switch p.FlashAttn {
	case FlashAttnAuto:
		np.FlashAttn = -1
	case FlashAttnOn:
		np.FlashAttn = 1
	case FlashAttnOff:
		if p.TypeV.quantised() {
			return np, errorf(ErrInvalidParam, "a quantised V cache needs flash attention")
		}
	default:
		return np, errorf(ErrInvalidParam, "FlashAttn = %d is none of the constants", p.FlashAttn)
	}
	var okK, okV bool
	np.TypeK, okK = ggmlTypes[p.TypeK]
	np.TypeV, okV = ggmlTypes[p.TypeV]
	if !okK || !okV {
		return np, errorf(ErrInvalidParam, "TypeK = %d, TypeV = %d: want KV type constants", p.TypeK, p.TypeV)
	}
	np.KVUnified, np.SWAFull = p.KVUnified, p.SWAFull
	np.Embeddings, np.PoolingType = p.Embeddings, int32(p.PoolingType)-1
	np.OffloadKQV, np.OpOffload = !p.NoKVOffload, !p.NoOpOffload
	return np, p.Pool.native(&np)
}
