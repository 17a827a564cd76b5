package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// compiler is a small process beside a worker, with the model's vocabulary alone,
// that renders chat templates and compiles grammars and schemas. Nothing stops
// llama.cpp there, and hostile ones can crash it or run for ever: then this process
// is killed, not the one that computes everybody's answers.
type compiler struct {
	supervisor
	path     string
	template string
	budget   time.Duration
	turns    chan struct{} // one for each call that the process may work on
	has      bool          // a chat template
	begun    chan error    // gets what begin says
}

const (
	compileBudget = 10 * time.Second
	// compileTries: whoever ends the process ends the calls of others, which are tried again.
	compileTries = 3
	// compileTurns lets an honest call pass beside one that runs until its budget is used, and keeps the hostile ones, which
	// nothing stops before that, from taking every processor's time.
	compileTurns = 4
)

// newCompiler begins to start the process: others load the model meanwhile. Who uses it first waits for begun.
func newCompiler(ctx context.Context, path string, p Params) (*compiler, error) {
	program, args, err := workerProgram("")
	if err != nil {
		return nil, err
	}
	k := &compiler{
		path: path, template: p.ChatTemplate, budget: p.CompileBudget,
		turns: make(chan struct{}, compileTurns), begun: make(chan error, 1),
	}
	k.supervisor = supervisor{program: program, args: args, logger: p.Logger, load: k.load, eager: true}
	go func() { k.begun <- k.begin(ctx) }()
	return k, nil
}

func (k *compiler) load(ctx context.Context, s *session) error {
	r := openRequest{Path: k.path, Params: Params{ChatTemplate: k.template}, Compiler: true, Logs: logLevel(ctx, k.logger)}
	ctx, cancel := context.WithTimeoutCause(ctx, startBudget, fmt.Errorf("engine: the model's vocabulary or its chat template takes longer than %v to load: %w", startBudget, llama.ErrChatTemplate))
	defer cancel()
	reply, err := s.open(ctx, r, nil, nil)
	if err != nil && errors.Is(context.Cause(ctx), llama.ErrChatTemplate) {
		err = context.Cause(ctx)
	}
	if err == nil {
		k.mu.Lock()
		k.has = reply.HasChatTemplate
		k.mu.Unlock()
	}
	return err
}

// startBudget is for loading a vocabulary and compiling its template.
const startBudget = 2 * time.Minute

// Close ends the process.
func (k *compiler) Close() error {
	if s := k.stop(); s != nil {
		s.kill()
	}
	return nil
}

// grammarCheck is what compiler.check sends: one of both.
type grammarCheck struct {
	Schema  []byte
	Grammar string
}

// apply renders a conversation; it stands in for a [llama.ChatTemplate].
func (k *compiler) apply(ctx context.Context, r llama.ChatTemplateRequest) (*llama.ChatPrompt, error) {
	data, err := compile[[]byte](ctx, k, "apply", r, llama.ErrChatTemplate, llama.ErrChatTemplate)
	if err != nil {
		return nil, err
	}
	p := new(llama.ChatPrompt)
	if err := p.UnmarshalBinary(data); err != nil {
		return nil, err
	}
	if p.Grammar == "" {
		return p, nil
	}
	return p, k.check(ctx, grammarCheck{Grammar: p.Grammar})
}

// tryCompile compiles what a request brings in the compiler's process, where there is one.
func (e *Engine) tryCompile(ctx context.Context, schema []byte, grammar string) error {
	if e.params.compiler == nil || len(schema)+len(grammar) == 0 {
		return nil
	}
	return e.params.compiler.check(ctx, grammarCheck{Schema: schema, Grammar: grammar})
}

// check compiles what a request brings, so that the engine's own process does it only
// with what is known to end.
func (k *compiler) check(ctx context.Context, g grammarCheck) error {
	_, err := compile[bool](ctx, k, "check", g, llama.ErrGrammarBudget, llama.ErrInvalidGrammar)
	return err
}

// compile makes a call; late is what it is where it takes too long, bad where it crashes. It ends with ctx, but keeps its turn
// until the call ends: somebody who sends what compiles for ever and leaves would else keep a processor for good.
func compile[A any](ctx context.Context, k *compiler, method string, r any, late, bad error) (answer A, err error) {
	b, err := encodeWire(r, "ChatRequest")
	if err != nil {
		return answer, err
	}
	select {
	case k.turns <- struct{}{}:
	case <-ctx.Done():
		return answer, ctx.Err()
	case <-k.ctx.Done():
		return answer, ErrClosed
	}
	type result struct {
		answer A
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-k.turns }()
		answer, err := compileNow[A](k, method, b, late, bad)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return answer, ctx.Err()
	case <-k.ctx.Done():
		return answer, ErrClosed
	}
}

// compileNow makes the call of a turn.
func compileNow[A any](k *compiler, method string, request []byte, late, bad error) (answer A, err error) {
	for range compileTries {
		var s *session
		if s, err = k.session(k.ctx); err != nil {
			return answer, err
		}
		limited, cancel := context.WithTimeout(k.ctx, k.budget)
		answer, err = callWorker[A](limited, s, method, request)
		expired := limited.Err() != nil
		cancel()
		var died *ErrWorkerDied
		switch {
		case k.ctx.Err() != nil:
			return answer, ErrClosed
		case expired: // also where the answer came just then
			s.kill()
			return answer, fmt.Errorf("engine: compiling takes longer than %v: %w", k.budget, late)
		case !errors.As(err, &died):
			return answer, err
		}
	}
	return answer, fmt.Errorf("engine: llama.cpp crashed while compiling: %w: %w", bad, err)
}

// compilerServer is what a compiler's process works with.
type compilerServer struct {
	model    *llama.Model
	template *llama.ChatTemplate // nil where the model has none
}

func newCompilerServer(ctx context.Context, path, template string) (*compilerServer, error) {
	m, err := llama.LoadModel(ctx, path, llama.ModelParams{VocabOnly: true, NGPULayers: llama.NoLayers})
	if err != nil {
		return nil, err
	}
	t, err := llama.NewChatTemplate(m, template)
	if err != nil && !errors.Is(err, llama.ErrNoChatTemplate) {
		return nil, errors.Join(err, m.Close())
	}
	return &compilerServer{model: m, template: t}, nil
}

func (s *compilerServer) apply(_ context.Context, r llama.ChatTemplateRequest) ([]byte, error) {
	p, err := s.template.Apply(r)
	if err != nil {
		return nil, err
	}
	return p.MarshalBinary()
}

func (s *compilerServer) check(_ context.Context, g grammarCheck) (ok bool, err error) {
	grammar := g.Grammar
	if len(g.Schema) > 0 {
		if grammar, err = llama.SchemaToGrammar(g.Schema); err != nil {
			return false, err
		}
	}
	err = llama.CheckGrammar(s.model, grammar)
	return err == nil, err
}
