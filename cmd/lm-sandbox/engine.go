package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// engineFlags say which model answers, and on what.
type engineFlags struct {
	model  string
	layers gpuLayers
	params engine.Params
	flags  *pflag.FlagSet
}

func (f *engineFlags) register(fs *pflag.FlagSet) {
	f.flags = fs
	fs.StringVarP(&f.model, "model", "m", os.Getenv("LM_SANDBOX_MODEL"), "`model`: "+modelRefHelp+" (default $LM_SANDBOX_MODEL, else default)")
	fs.IntVarP(&f.params.NCtx, "ctx-size", "c", 0, "`tokens` that fit into the context; 0: as the model was trained, or as many as memory takes")
	fs.IntVarP(&f.params.NThreads, "threads", "t", 0, "`number` of CPU threads; 0: one for each physical core")
	fs.IntVarP(&f.params.NBatch, "batch-size", "b", 0, "most `tokens` in one step; 0: 512")
	fs.IntVar(&f.params.NUBatch, "ubatch-size", 0, "most `tokens` computed at once; 0: 512")
	fs.StringVar(&f.params.Cache.Dir, "cache-dir", os.Getenv("LM_SANDBOX_CACHE_DIR"), cacheDirHelp)
	fs.Var(&f.layers, "gpu-layers", "`layers` to put on the GPU: auto, all, none or a number")
	fs.BoolVar(&f.params.Isolated, "isolated", f.params.Isolated, "run the model in a process of its own, which may crash")
}

// open brings the model, loads it and makes an engine for so many sequences.
func (f *engineFlags) open(ctx context.Context, std stdio, sequences int) (*engine.Engine, hub.Model, error) {
	m, err := pullModel(ctx, std, f.model)
	if err != nil {
		return nil, m, err
	}
	p := f.params
	p.MaxSequences = sequences
	p.Model.NGPULayers = int(f.layers)
	if verbose, err := f.flags.GetBool("verbose"); err == nil && verbose {
		p.Logger = slog.New(slog.NewTextHandler(std.err, nil))
	}
	p.Preflight = gpus.preflight(f.layers, std.err)
	e, err := engine.Open(ctx, m.Path, p)
	if err != nil {
		return nil, m, modelFailure(err)
	}
	return e, m, nil
}

// gpuLayers is a flag value: a word or a number for llama.ModelParams.NGPULayers.
type gpuLayers int

// Set parses s.
func (g *gpuLayers) Set(s string) error {
	switch s {
	case "auto":
		*g = llama.Auto
	case "all":
		*g = llama.AllLayers
	case "none", "0":
		*g = llama.NoLayers
	default:
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is neither auto, all, none nor a number", s)
		}
		*g = gpuLayers(n)
	}
	return nil
}

// String is the word, else the number.
func (g *gpuLayers) String() string {
	switch *g {
	case llama.Auto:
		return "auto"
	case llama.AllLayers:
		return "all"
	case llama.NoLayers:
		return "none"
	}
	return strconv.Itoa(int(*g))
}

// Type names the value in help texts.
func (g *gpuLayers) Type() string { return "layers" }

// samplingFlags are the sampler's settings, with the defaults of llama.cpp's tools.
type samplingFlags struct{ params llama.SamplerParams }

func (f *samplingFlags) register(fs *pflag.FlagSet) {
	f.params = llama.DefaultSamplerParams()
	p := &f.params
	fs.Float32Var(&p.Temperature, "temp", p.Temperature, "`temperature`; 0: always the likeliest token")
	fs.Int32Var(&p.TopK, "top-k", p.TopK, "sample from this `number` of the likeliest tokens; 0: all")
	fs.Float32Var(&p.TopP, "top-p", p.TopP, "sample from the likeliest tokens that make up this `probability`; 1: all")
	fs.Float32Var(&p.MinP, "min-p", p.MinP, "leave out tokens below this `part` of the likeliest one's probability; 0: none")
	fs.Var(&seed{&p.Seed}, "seed", "`number` that makes sampling repeatable, or random")
}

// seed is a flag value: a 32-bit number, or "random".
type seed struct{ value *uint32 }

// Set parses s.
func (s *seed) Set(text string) error {
	if text == "random" {
		*s.value = llama.RandomSeed
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is neither a 32-bit number nor random", text)
	}
	*s.value = uint32(n)
	return nil
}

// String is the number, or "random".
func (s *seed) String() string {
	if s.value == nil || *s.value == llama.RandomSeed {
		return "random"
	}
	return strconv.FormatUint(uint64(*s.value), 10)
}

// Type names the value in help texts.
func (s *seed) Type() string { return "number" }
