//go:build !cgo

// Package native stands in for llama.cpp in a build without cgo: it compiles, and Init says why nothing works.
package native

import "time"

// Supported says whether this build contains llama.cpp.
const Supported = false

var errNoCgo = &Error{Code: CodeNoCgo, Text: "this program was built with CGO_ENABLED=0: build it with CGO_ENABLED=1 and a C++ compiler"}

type (
	Model   struct{}
	Plan    struct{}
	Adapter struct{}
	Context struct{}
	Sampler struct{}
	Chat    struct{}
	Parser  struct{}
	Row     struct{}
)

func Init() error                              { return errNoCgo }
func Version() string                          { return "" }
func SystemInfo() string                       { return "" }
func NThreadsDefault() int                     { return 1 }
func Devices() []Device                        { return nil }
func SetLog(int, func(level int, text string)) {}

func LoadModel(string, ModelParams, Plan, func(float32) bool) (Model, error) {
	return Model{}, errNoCgo
}
func (Model) Free()                      {}
func (Model) Info() ModelInfo            { return ModelInfo{} }
func (Model) Meta() (string, error)      { return "", errNoCgo }
func (Model) Pieces(int) (Pieces, error) { return Pieces{}, errNoCgo }
func (Model) Text(int32) (string, error) { return "", errNoCgo }

func NewPlan(string, Placement, string, int64) (Plan, error)     { return Plan{}, errNoCgo }
func (Plan) Free()                                               {}
func (Plan) OpenModel() (PlanInfo, error)                        { return PlanInfo{}, errNoCgo }
func (Plan) CloseModel()                                         {}
func (Plan) Measure(ContextParams) ([]DeviceMemory, error)       { return nil, errNoCgo }
func (Plan) Fit(*ContextParams, []uint64, uint32) (int32, error) { return 0, errNoCgo }

func Tokenize[T ~int32](Model, []T, string, bool, bool) ([]T, error) { return nil, errNoCgo }
func Detokenize[T ~int32](Model, []T, bool, bool) (string, error)    { return "", errNoCgo }

func NewContext(Model, ContextParams) (Context, ContextInfo, error) {
	return Context{}, ContextInfo{}, errNoCgo
}
func (Context) Free()                                                  {}
func (Context) Abort(bool)                                             {}
func (Context) Decode(_, _, _ []int32, _ []int8, _ []Row, _ int) error { return errNoCgo }
func (Context) Sample(Sampler, int32) (int32, error)                   { return -1, errNoCgo }
func (Context) Hold(bool)                                              {}
func (Context) Times() (decode, sample time.Duration)                  { return 0, 0 }
func (Context) Logits(int32, []float32) error                          { return errNoCgo }
func (Context) Embeddings(_, _ int32, _ []float32) error               { return errNoCgo }
func (Context) EmbeddingSeq(int32, []float32) error                    { return errNoCgo }
func (Context) Encode(_, _, _ []int32) error                           { return errNoCgo }
func (Context) MemoryClear(bool) bool                                  { return false }
func (Context) MemorySeqRemove(_, _, _ int32) bool                     { return false }
func (Context) MemorySeqCopy(_, _, _, _ int32) bool                    { return false }
func (Context) MemorySeqKeep(int32) bool                               { return false }
func (Context) MemorySeqAdd(_, _, _, _ int32) bool                     { return false }
func (Context) MemorySeqDiv(_, _, _, _ int32) bool                     { return false }
func (Context) MemoryPos(int32) (lo, hi int32)                         { return -1, -1 }
func (Context) StateSeqSize(int32, uint32) int                         { return 0 }
func (Context) StateSeqGet(int32, []byte, uint32) int                  { return 0 }
func (Context) StateSeqSet(int32, []byte, uint32) int                  { return 0 }
func (Context) SetAdapters([]Adapter, []float32) error                 { return errNoCgo }
func (Context) StateSize() int                                         { return 0 }
func (Context) StateGet([]byte) int                                    { return 0 }
func (Context) StateSet([]byte) int                                    { return 0 }
func (Context) SampleRow(Sampler, int32, []Prob) (int32, error)        { return -1, errNoCgo }
func (Context) LogitsAt(int32, int) ([]float32, error)                 { return nil, errNoCgo }
func SetRow(*Row, Sampler, int32, int32, int32)                        {}
func RowResult(*Row) ([]int32, []Prob, error)                          { return nil, nil, errNoCgo }

func LoadAdapter(Model, string) (Adapter, error)                         { return Adapter{}, errNoCgo }
func (Adapter) Free()                                                    {}
func TypeSize(uint32) (block, bytes uint64)                              { return 0, 0 }
func Quantize(_, _ string, _ QuantizeParams, _ func(float32) bool) error { return errNoCgo }

func SamplerDefaults() (SamplerParams, error)           { return SamplerParams{}, errNoCgo }
func NewSampler(Model, *SamplerParams) (Sampler, error) { return Sampler{}, errNoCgo }
func (Sampler) Working() float64                        { return 0 }
func (Sampler) Free()                                   {}
func (Sampler) Clone() (Sampler, error)                 { return Sampler{}, errNoCgo }
func (Sampler) Reset() error                            { return errNoCgo }
func Accept[T ~int32](Sampler, []T, bool) error         { return errNoCgo }
func CheckGrammar(Model, string) error                  { return errNoCgo }
func SchemaToGrammar(string) (string, error)            { return "", errNoCgo }

func NewChat(Model, string) (Chat, error)         { return Chat{}, errNoCgo }
func BuiltinTemplates() ([]string, error)         { return nil, errNoCgo }
func (Chat) Free()                                {}
func (Chat) Caps() (string, error)                { return "", errNoCgo }
func (Chat) Apply(string) (string, error)         { return "", errNoCgo }
func NewParser(string) (Parser, error)            { return Parser{}, errNoCgo }
func (Parser) Free()                              {}
func (Parser) Parse(string, bool) (string, error) { return "", errNoCgo }
