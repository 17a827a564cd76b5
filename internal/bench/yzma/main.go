// Command yzma-bench decodes one stream through yzma as its "hello" example does and
// prints tokens/s in llama-bench's JSON: yzma-bench LIBRARIES MODEL THREADS TOKENS.
//
// It is a module of its own, so that importers of lm-sandbox never see yzma.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hybridgroup/yzma/pkg/llama"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "yzma-bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("want LIBRARIES MODEL THREADS TOKENS")
	}
	threads, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	tokens, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	if err := llama.Load(args[0]); err != nil {
		return err
	}
	llama.LogSet(llama.LogSilent())
	llama.Init()
	model, err := load(args[0], args[1])
	if err != nil {
		return err
	}
	params := llama.ContextDefaultParams()
	params.NCtx, params.NThreads, params.NThreadsBatch = 512, int32(threads), int32(threads)
	ctx, err := llama.InitFromModel(model, params)
	if err != nil {
		return err
	}
	if _, err := decode(ctx, model, 16); err != nil { // warm-up
		return err
	}
	speed, err := decode(ctx, model, tokens)
	if err != nil {
		return err
	}
	fmt.Printf("[{\"avg_ts\": %f}]\n", speed)
	return nil
}

func decode(ctx llama.Context, model llama.Model, tokens int) (float64, error) {
	memory, err := llama.GetMemory(ctx)
	if err != nil {
		return 0, err
	}
	if err := llama.MemoryClear(memory, true); err != nil {
		return 0, err
	}
	vocab := llama.ModelGetVocab(model)
	sampler := llama.SamplerChainInit(llama.SamplerChainDefaultParams())
	llama.SamplerChainAdd(sampler, llama.SamplerInitGreedy())
	defer llama.SamplerFree(sampler)
	token := llama.VocabBOS(vocab)
	piece := make([]byte, 64)
	start := time.Now()
	for range tokens {
		if _, err := llama.Decode(ctx, llama.BatchGetOne([]llama.Token{token})); err != nil {
			return 0, err
		}
		token = llama.SamplerSample(sampler, ctx, -1)
		llama.TokenToPiece(vocab, token, piece, 0, true)
	}
	return float64(tokens) / time.Since(start).Seconds(), nil
}
