package native

import "fmt"

// Codes of [Error] beside llama_decode's own (2, 1, -1 and below).
const (
	CodeError     = -1000
	CodeMemory    = -1001
	CodeCancelled = -1002
	CodeGrammar   = -1003
	CodeNoCgo     = -1004
	CodeBudget    = -1005

	CodeUnsupported = -1006
)

// Error is a failed call: a code of this package or of llama_decode, and llama.cpp's text.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("llama.cpp returned %d", e.Code)
	}
	return e.Text
}

// Device is one ggml backend device.
type Device struct {
	Name, Description string
	Type              string // cpu, gpu, igpu, accel, other
	ID                string
	MemoryFree        uint64
	MemoryTotal       uint64
}

// ModelParams are llama_model_params as far as they are used.
type ModelParams struct {
	LoadMode     int32
	CheckTensors bool
	VocabOnly    bool
}

// Placement says which devices take the model, and how they share it.
type Placement struct {
	NGPULayers  int32 // negative = all, 0 = no GPU at all
	SplitMode   int32
	MainGPU     int32
	Devices     []string  // none = all
	TensorSplit []float32 // none = as memory allows
}

// QuantizeParams are llama_model_quantize_params as far as they are used.
type QuantizeParams struct {
	Ftype, NThreads                             int32
	AllowRequantize, Pure, QuantizeOutputTensor bool
}

// PlanInfo holds the facts of a model that a plan depends on.
type PlanInfo struct {
	NLayer, NCtxTrain  int32
	HasEncoder, CanMap bool
}

// DeviceMemory is what a model and a context take of one device.
type DeviceMemory struct {
	Device
	Weights, Mappable, Context, Compute uint64
}

// ModelInfo holds all fixed facts of a model and its vocabulary, read in one call.
type ModelInfo struct {
	Size, NParams                                              uint64
	NCtxTrain, NEmbd, NEmbdOut, NClsOut, NLayer, NHead, NSWA   int32
	RopeType, VocabType, NTokens                               int32
	BOS, EOS, EOT, NL, SEP                                     int32
	HasEncoder, HasDecoder, IsRecurrent, IsHybrid, IsDiffusion bool
	AddBOS, AddEOS, AddSEP                                     bool
	Desc                                                       string
}

// Types of a vocabulary (llama_vocab_type) as far as they are told apart.
const (
	VocabNone      = 0
	VocabWordPiece = 3
)

// Flags of a token.
const (
	TokenEOG     = 1
	TokenControl = 2
	TokenHidden  = 4  // has a text only when special tokens are rendered
	TokenSpecial = 8  // its text is matched only when special tokens are parsed
	TokenSplits  = 16 // its text is matched before all others
)

// Pieces holds the text of every token: token t's is Text[Ends[t-1]:Ends[t]].
type Pieces struct {
	Text  []byte
	Ends  []uint32
	Flags []uint8
}

// MostCPUs is GGML_MAX_N_THREADS.
const MostCPUs = 512

// ContextParams are llama_context_params as far as they are used.
type ContextParams struct {
	NCtx, NBatch, NUBatch, NSeqMax, NOutputsMax uint32
	NThreads, NThreadsBatch                     int32
	FlashAttn                                   int32
	TypeK, TypeV                                int32
	Embeddings                                  bool
	PoolingType                                 int32
	KVUnified, SWAFull, OffloadKQV, OpOffload   bool
	CPUMask                                     [MostCPUs]bool
	StrictCPU                                   bool
	Priority                                    int32
}

// ContextInfo holds what a context was really made with.
type ContextInfo struct {
	NCtx, NCtxSeq, NBatch, NUBatch, NSeqMax uint32
	HasMemory, CanShift                     bool
}

// Kinds of grammar: they differ in whether the generation prompt is fed to them first.
const (
	GrammarUser   = 0
	GrammarSchema = 1
	GrammarTools  = 2
)

// Types of a Trigger.
const (
	TriggerToken       = 0
	TriggerWord        = 1
	TriggerPattern     = 2
	TriggerPatternFull = 3
)

// Prob is the logarithm of a token's probability, in C's layout.
type Prob struct {
	Token   int32
	Logprob float32
}

// Trigger starts a lazy grammar.
type Trigger struct {
	Type  int32
	Value string
	Token int32
}

// SamplerParams mirror common_params_sampling; all values are final, none means "default".
type SamplerParams struct {
	Seed                                                            uint32
	TopK, PenaltyLastN                                              int32
	DryAllowedLength, DryPenaltyLastN, Mirostat, MinKeep            int32
	Temp, TopP, MinP, TypP, TopNSigma, XTCProbability, XTCThreshold float32
	DynatempRange, DynatempExponent                                 float32
	PenaltyRepeat, PenaltyFreq, PenaltyPresent                      float32
	DryMultiplier, DryBase, MirostatTau, MirostatEta                float32
	AdaptiveTarget, AdaptiveDecay                                   float32
	Samplers                                                        string // in their order, as common_sampler_type_to_chr names them
	DryBreakers                                                     []string
	BiasToken                                                       []int32
	Bias                                                            []float32
	Grammar                                                         string
	GrammarKind                                                     int32
	GrammarLazy                                                     bool
	GenerationPrompt                                                string
	ThinkingStart                                                   string
	ThinkingEnds                                                    []string
	ThinkingBudget                                                  int32 // -1 = none
	ThinkingMessage                                                 string
	Triggers                                                        []Trigger
	Preserved                                                       []int32
}
