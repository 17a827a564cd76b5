package llama

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/flock"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// TuneParams says how [Tune] looks for a faster form of a model. The zero value is sensible.
type TuneParams struct {
	// MaxKL is how much a candidate may lose. What the file says exactly, its weights as 16-bit floats compute; the file itself
	// differs from that, since llama.cpp rounds activations for quantised weights. A loss is how much further away from it a
	// candidate is than the file: by the mean over the text of the Kullback-Leibler divergence of the next token's
	// probabilities, in nats. 0 = 0.001, less than a half of what the default model's own rounding makes.
	MaxKL float64
	// MinDecode is the least speed of generating, as a part of the file's; 0 = 0.9.
	MinDecode float64
	// Types are tried, of [QuantizeTypes]; nil = Q8_0 and Q4_0, which llama.cpp rearranges for the CPU when it loads them.
	Types []string
	// Text is what the divergence is measured on, some hundred tokens like those that the model is for; "" = English prose.
	Text string
	// NThreads computes on so many threads; 0 = the physical cores.
	NThreads int
	// Rounds is how often each speed is measured at least, by turns; 0 = 5. Up to three times as many decide what is close.
	Rounds int
	// Dir is where tuned files are kept; "" = ${XDG_CACHE_HOME:-~/.cache}/lm-sandbox/tuned. Nothing removes them but their owner.
	Dir string
	// Again measures although there is a result.
	Again bool
	// Progress is called on the goroutine that tunes, with what begins.
	Progress func(stage string)
}

// TuneResult says which file is the fastest one within the bounds, and what it gains and loses.
type TuneResult struct {
	Path       string          `json:"path"` // to be loaded: the model's own file where none is better
	Type       string          `json:"type"` // of the file at Path; "" = the model's own
	File       TuneFigures     `json:"file"` // the model's own file
	KL         float64         `json:"kl"`   // its divergence from its weights computed exactly, nats
	Candidates []TuneCandidate `json:"candidates"`
	Tokens     int             `json:"tokens"` // of the text
	Rounds     int             `json:"rounds"`
	Cached     bool            `json:"-"` // measured before
}

// TuneFigures are a file's size, and medians of its speeds.
type TuneFigures struct {
	Bytes   int64   `json:"bytes"`
	Prefill float64 `json:"prefill"` // tokens of a prompt per second
	Decode  float64 `json:"decode"`  // generated tokens per second
}

// TuneCandidate is one that was tried. The gains are medians of the rounds' ratios to the file: 2 is twice as fast.
type TuneCandidate struct {
	Type string `json:"type"`
	TuneFigures
	KL          float64 `json:"kl"`    // divergence from the file's weights computed exactly, nats
	Loss        float64 `json:"loss"`  // how much of it is more than the file's own: what MaxKL bounds; may be below 0
	Agree       float64 `json:"agree"` // share of the text's tokens for which it holds the same one for the likeliest as the exact one
	PrefillGain float64 `json:"prefill_gain"`
	DecodeGain  float64 `json:"decode_gain"`
	Verdict     string  `json:"verdict"` // "chosen", or why not
}

const (
	defaultMaxKL     = 0.001
	defaultMinDecode = 0.9
	defaultRounds    = 5
	leastGain        = 1.1 // of prefill: less is not worth a second file
	tuneVersion      = 2
)

// Tune looks for a form of a model that this CPU computes faster: for some quantisations llama.cpp has no fast matrix products
// on some CPUs. It writes the file with other types of weights, measures both by turns, and keeps the one with the fastest
// prefill within the bounds. What it found is kept for the file, llama.cpp's version, the CPU and p; the next call answers at
// once. It takes a minute for a small model on an idle machine, needs memory and disk for all that is tried and for two bytes
// for each weight, and measures the CPU only. Who tunes the same file in the same way meanwhile waits for it.
//
// # Errors
//
//   - ctx's error, those of [LoadModel] and [Quantize], and the file system's
//   - [ErrInvalidParam], also for a text of less than 64 tokens; [ErrUnsupported] for a model that does not generate
func Tune(ctx context.Context, path string, p TuneParams) (*TuneResult, error) {
	if err := p.complete(); err != nil {
		return nil, err
	}
	if err := native.Init(); err != nil {
		return nil, fromNative(err, ErrUnsupported, "llama.cpp")
	}
	head, err := checkModelFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := p.place(path)
	if err != nil {
		return nil, err
	}
	if !p.Again {
		if r := readTuned(dir, path); r != nil {
			return r, nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("llama: tune: %w", err)
	}
	unlock, err := flock.Lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("llama: tune: %w", err)
	}
	defer unlock()
	if !p.Again { // somebody may have tuned meanwhile
		if r := readTuned(dir, path); r != nil {
			return r, nil
		}
	}
	types := slices.DeleteFunc(slices.Clone(p.Types), func(t string) bool { return head.fileType == ftypes[t] && head.quantised })
	r, err := p.try(ctx, path, dir, types, head.quantised)
	if e := os.Remove(tunedFile(dir, exactForm)); !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err == nil {
		err = r.write(dir, path)
	}
	for _, t := range p.Types {
		if err != nil || t != r.Type {
			if e := os.Remove(tunedFile(dir, t)); !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// complete checks the parameters and fills in the defaults.
func (p *TuneParams) complete() error {
	if !(p.MaxKL >= 0) || !(p.MinDecode >= 0) || p.Rounds < 0 || p.NThreads < 0 || p.NThreads > mostThreads {
		return errorf(ErrInvalidParam, "tune: MaxKL = %v, MinDecode = %v, Rounds = %d, NThreads = %d: want none below 0, and at most %d threads",
			p.MaxKL, p.MinDecode, p.Rounds, p.NThreads, mostThreads)
	}
	if p.MaxKL == 0 {
		p.MaxKL = defaultMaxKL
	}
	if p.MinDecode == 0 {
		p.MinDecode = defaultMinDecode
	}
	if p.Rounds == 0 {
		p.Rounds = defaultRounds
	}
	if p.Types == nil {
		p.Types = []string{"Q8_0", "Q4_0"}
	}
	types := make([]string, 0, len(p.Types))
	for _, t := range p.Types {
		t = strings.ToUpper(t)
		if _, ok := ftypes[t]; !ok {
			return errorf(ErrInvalidParam, "tune: type %.40q: want some of %s", t, strings.Join(QuantizeTypes(), ", "))
		}
		types = append(types, t)
	}
	p.Types = types
	if p.Text == "" {
		p.Text = tuneText
	}
	if p.NThreads == 0 {
		p.NThreads = native.NThreadsDefault()
	}
	return nil
}

// place is the directory of what is found for a file, on this machine, within these bounds.
func (p *TuneParams) place(path string) (string, error) {
	dir := p.Dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("llama: tune: %w: set TuneParams.Dir", err)
		}
		dir = filepath.Join(cache, "lm-sandbox", "tuned")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("llama: tune: %w", err)
	}
	file, err := fingerprint(path)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("llama: tune: %w", err)
	}
	cpu := ""
	for _, d := range native.Devices() {
		if d.Type == "cpu" {
			cpu += d.Description
		}
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d\n%s\n%d\n%s\n%s\n%s\n", tuneVersion, file, st.ModTime().UnixNano(), llamacpp.Tree, native.SystemInfo(), cpu)
	_, _ = fmt.Fprintf(h, "%v %v %v %d\n%s", p.MaxKL, p.MinDecode, p.Types, p.NThreads, p.Text)
	return filepath.Join(dir, hex.EncodeToString(h.Sum(nil)[:16])), nil
}

func tunedFile(dir, name string) string { return filepath.Join(dir, name+".gguf") }

const exactForm = "exact"

const tunedResult = "result.json"

// readTuned gives a result that was found before, nil where there is none.
func readTuned(dir, path string) *TuneResult {
	b, err := os.ReadFile(filepath.Join(dir, tunedResult))
	var r TuneResult
	if err != nil || json.Unmarshal(b, &r) != nil {
		return nil
	}
	r.Path, r.Cached = path, true
	if r.Type != "" {
		if _, ok := ftypes[r.Type]; !ok {
			return nil
		}
		r.Path = tunedFile(dir, r.Type)
	}
	if Verify(r.Path) != nil {
		return nil
	}
	return &r
}

func (r *TuneResult) write(dir, path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("llama: tune %s: %w", path, err)
	}
	return writeWhole(filepath.Join(dir, tunedResult), 0o600, func(temp string) error { return os.WriteFile(temp, b, 0o600) })
}

// tuned is the file to be loaded for ModelParams.Tune.
func (p *ModelParams) tuned(ctx context.Context, path string) (string, error) {
	if p.Tune == nil || p.VocabOnly {
		return path, nil
	}
	for _, d := range native.Devices() {
		if p.NGPULayers != NoLayers && (d.Type == "gpu" || d.Type == "igpu") {
			return "", errorf(ErrInvalidParam, "Tune measures the CPU, and %s would compute: set NGPULayers to NoLayers", d.Name)
		}
	}
	r, err := Tune(ctx, path, *p.Tune)
	if err != nil {
		return "", err
	}
	return r.Path, nil
}
