package llama_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// Continue a text with the most probable tokens.
func Example() {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := continueText(ctx, file.Path, "The capital of France is", 8); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Paris.
	//
	// The United States has
}

func continueText(ctx context.Context, path, prompt string, n int) error {
	m, err := llama.LoadModel(ctx, path, llama.ModelParams{})
	if err != nil {
		return err
	}
	defer m.Close()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 512, NThreads: 1})
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := llama.NewSampler(m, llama.SamplerParams{}) // greedy
	if err != nil {
		return err
	}
	defer s.Close()

	tokens, err := m.Vocab().Tokenize(prompt, true, false)
	if err != nil {
		return err
	}
	b := llama.NewBatch(len(tokens))
	for i, t := range tokens {
		if _, err := b.Add(t, llama.Pos(i), 0, i == len(tokens)-1); err != nil {
			return err
		}
	}
	rows := []llama.SampleRow{{Index: len(tokens) - 1, Sampler: s}}
	var text llama.TextDecoder
	var piece []byte
	for i := range n {
		if err := c.DecodeSample(b, rows); err != nil {
			return err
		}
		if rows[0].Err != nil {
			return rows[0].Err
		}
		t := rows[0].Token
		if m.Vocab().IsEOG(t) {
			break
		}
		if piece, err = m.Vocab().AppendPiece(piece[:0], t, false); err != nil {
			return err
		}
		fmt.Print(text.Push(piece))
		b.Clear()
		if rows[0].Index, err = b.Add(t, llama.Pos(len(tokens)+i), 0, true); err != nil {
			return err
		}
	}
	fmt.Println(text.Flush())
	return nil
}

// What a user writes stays text, even where it spells a control token.
func ExampleChatTemplate_Apply() {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := llama.LoadModel(ctx, file.Path, llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	t, err := llama.NewChatTemplate(m, "")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = t.Close() }()
	p, err := t.Apply(llama.ChatTemplateRequest{
		Messages:            []llama.ChatMessage{{Role: "system", Content: "Be kind."}, {Role: "user", Content: "Hi!<|im_end|>"}},
		AddGenerationPrompt: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	control := 0
	for _, tok := range p.Tokens {
		if m.Vocab().IsControl(tok) {
			control++
		}
	}
	fmt.Print(p.Text)
	fmt.Println(control, "control tokens")
	// Output:
	// <|im_start|>system
	// Be kind.<|im_end|>
	// <|im_start|>user
	// Hi!<|im_end|><|im_end|>
	// <|im_start|>assistant
	// 5 control tokens
}

// A download that was cut off is found out before anything is loaded.
func ExampleVerify() {
	file, err := hub.Pull(context.Background(), "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	model, err := os.ReadFile(file.Path)
	if err != nil {
		log.Fatal(err)
	}
	cut, err := os.CreateTemp("", "*.gguf")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(cut.Name())
	_, err = cut.Write(model[:len(model)/2])
	if err := errors.Join(err, cut.Close()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(llama.Verify(file.Path))
	fmt.Println(errors.Is(llama.Verify(cut.Name()), llama.ErrModelFormat))
	// Output:
	// <nil>
	// true
}

// Ask what a model is going to need before it is loaded.
func ExampleEstimateMemory() {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	need, err := llama.EstimateMemory(ctx, file.Path, llama.ModelParams{Context: llama.ContextParams{NCtx: 4096}})
	if err != nil {
		log.Fatal(err)
	}
	var cache uint64
	for _, d := range need.Devices { // GPUs, and main memory
		cache += d.Context
	}
	fmt.Printf("%d positions take %d MiB\n", need.NCtx, cache>>20)
	var small *llama.ErrInsufficientMemory
	if err := need.Check(); errors.As(err, &small) {
		fmt.Println(small.Device, "lacks", small.Need-small.Free, "bytes")
	}
	// Output: 4096 positions take 90 MiB
}

// A grammar from a stranger is refused with the place of its mistake.
func ExampleCheckGrammar() {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := llama.LoadModel(ctx, file.Path, llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	fmt.Println(llama.CheckGrammar(m, `root ::= "yes" | "no"`))
	fmt.Println(errors.Is(llama.CheckGrammar(m, `root ::= "yes" | missing`), llama.ErrInvalidGrammar))
	// Output:
	// <nil>
	// true
}

// The grammar of a JSON schema, to be used as a SamplerParams.Grammar.
func ExampleSchemaToGrammar() {
	gbnf, err := llama.SchemaToGrammar([]byte(`{"enum":["red","green"]}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(gbnf)
	_, err = llama.SchemaToGrammar([]byte(`{"type":"colour"}`))
	fmt.Println(errors.Is(err, llama.ErrInvalidSchema))
	// Output:
	// root ::= ("\"red\"" | "\"green\"")
	// space ::= | " " | "\n"{1,2} [ \t]{0,20}
	// true
}
