package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/cmd/lm-sandbox/internal/server"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// serveFlags are the flags of 'serve'.
type serveFlags struct {
	addr     string
	hosts    []string
	key      string
	parallel int
	pool     int
	engine   engineFlags
	sandbox  sandboxFlags
}

func newServe(std stdio) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "serve the model and the sandbox over HTTP",
		Long: `Serve the model and the sandbox over HTTP until SIGINT or SIGTERM; requests in
flight then get ten seconds to finish, and the exit code is 0.

  POST /run-bash/            {"cmd"} to {"output","error","exit_code","limit","level"}
  POST /llama-cpp/           {"cmd"} to {"output","error"}
  POST /ollama/              {"cmd"} to the JSON of $OLLAMA_URL with $OLLAMA_MODEL
  POST /v1/chat/completions  as OpenAI's, also streaming
  POST /v1/embeddings        as OpenAI's
  POST /v1/rerank            {"query","documents"} to scores, with a reranker
  GET  /v1/models  /health

Commands get the sandbox that the flags describe; a request cannot change it. One
is tried at the start: where the host allows none, serve ends with exit code 125,
or with --min-level none goes on and refuses commands. With --audit a command whose
record cannot be written is answered with an error; each line names the client.

What clients send to the model, schemas and grammars among it, is run in a process of
its own: where that crashes, its requests fail with 503 and another one starts.
--isolated=false keeps the model in this process.

Beyond loopback a key is needed, which clients send as "Authorization: Bearer KEY".
Where none is given, one is made and printed.`,
		Example: `  lm-sandbox serve
  curl -H 'Content-Type: application/json' -d '{"cmd":"id"}' http://127.0.0.1:8000/run-bash/
  LM_SANDBOX_KEY=$(openssl rand -hex 16) lm-sandbox serve --addr 0.0.0.0:8000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), std) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.addr, "addr", server.DefaultAddr, "`address` to listen on; port 0: any free one")
	fs.StringArrayVar(&f.hosts, "allow-host", nil, "further `name` that clients may reach it by; may be given again")
	fs.StringVar(&f.key, "key", "", "`key` that clients must send; $LM_SANDBOX_KEY keeps it from other users' eyes")
	fs.IntVar(&f.parallel, "parallel", 16, "`number` of requests that the model answers at once")
	fs.DurationVar(&f.engine.params.Pace, "pace", 0, "`time` that prompts may keep a stream from its next token, aimed at; 0: 800ms, -1ns: any")
	fs.IntVar(&f.pool, "pool", 2, "`number` of sandboxes to keep ready for the next commands; 0: none")
	f.sandbox.least.orNone = true
	f.engine.params.Isolated = true
	f.engine.register(fs)
	f.sandbox.register(fs)
	return cmd
}

func (f *serveFlags) run(ctx context.Context, std stdio) (err error) {
	key, made, err := serveKey(f.addr, cmp.Or(f.key, os.Getenv("LM_SANDBOX_KEY")))
	if err != nil { // before the address is open and the model is loaded
		return usage(err, "see 'lm-sandbox serve --help'")
	}
	config, closeAudit, err := f.sandbox.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	if config.Audit != nil {
		config.Audit = server.WithClient(config.Audit)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", f.addr)
	if err != nil {
		return &failure{code: exitService, err: err, hint: "choose another address with --addr"}
	}
	defer func() { _ = ln.Close() }() // again, where Serve has

	// The model loads while the sandbox is tried.
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var trial sandboxTrial
	var tried sync.WaitGroup
	tried.Go(func() {
		if trial = f.trySandbox(ctx, config); trial.err != nil {
			stop()
		}
	})
	e, m, err := f.engine.open(loading, std, f.parallel)
	tried.Wait()
	if e != nil {
		defer func() { err = errors.Join(err, e.Close()) }()
	}
	if trial.pool != nil {
		defer func() { err = errors.Join(err, trial.pool.Close()) }()
	}
	if trial.err != nil {
		return trial.err
	}
	if trial.refused != nil {
		_, writeErr := fmt.Fprintf(std.err, "lm-sandbox: warning: commands are refused, this host allows no sandbox: %v\n", trial.refused)
		err = cmp.Or(err, writeErr)
	}
	if err != nil {
		return err
	}

	s, err := server.New(server.Options{
		Engine: e, ModelName: m.Name, Sandbox: config, Pool: trial.pool,
		Addr: f.addr, AllowedHosts: f.hosts, Key: key,
		OllamaURL: os.Getenv("OLLAMA_URL"), OllamaModel: os.Getenv("OLLAMA_MODEL"),
		Logger: slog.New(slog.NewTextHandler(std.err, nil)),
	})
	if err != nil {
		return usage(err, "see 'lm-sandbox serve --help'")
	}
	if made {
		if _, err := fmt.Fprintf(std.err, "lm-sandbox: no key was given; until it ends, clients send \"Authorization: Bearer %s\"\n", key); err != nil {
			return err
		}
	}
	// Connections wait in ln from its start; from here on they are answered.
	if _, err := fmt.Fprintf(std.err, "lm-sandbox: listening on http://%s\n", ln.Addr()); err != nil {
		return err
	}
	if err := s.Serve(ctx, ln); err != nil {
		return &failure{code: exitService, err: err}
	}
	return nil
}

// serveKey checks the key that was given for addr, and makes one where addr needs
// one and none was given.
func serveKey(addr, given string) (key string, made bool, err error) {
	err = server.CheckKey(addr, given)
	if errors.Is(err, server.ErrKeyRequired) {
		return rand.Text(), true, nil
	}
	return given, false, err
}

// sandboxTrial is what came of a first command.
type sandboxTrial struct {
	pool    *sandbox.Pool // nil: none is wanted, or there is no sandbox
	refused error         // why this host allows no sandbox, where one can do without
	err     error
}

// trySandbox runs one command as a request would, so that a host without a sandbox
// shows at the start and not at the first request, and keeps some ready for the next.
func (f *serveFlags) trySandbox(ctx context.Context, config sandbox.Config) (t sandboxTrial) {
	_, err := sandbox.Run(ctx, config, "true")
	var invalid *sandbox.ErrConfig
	var unwritten *sandbox.ErrAudit
	switch {
	case ctx.Err() != nil:
		return sandboxTrial{err: ctx.Err()}
	case errors.As(err, &invalid), errors.As(err, &unwritten):
		return sandboxTrial{err: sandboxFailure(err)}
	case err != nil && f.sandbox.least.level > 0:
		return sandboxTrial{err: &failure{code: exitSandbox, err: err, hint: "'lm-sandbox doctor' says what is missing; --min-level none serves the model and refuses commands"}}
	case err != nil:
		return sandboxTrial{refused: err}
	case f.pool > 0:
		if t.pool, err = sandbox.NewPool(config, f.pool); err != nil {
			t.err = sandboxFailure(err)
		}
	}
	return t
}
