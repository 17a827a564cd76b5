package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/cmd/lm-sandbox/internal/server"
)

// serveFlags are the flags of 'serve'.
type serveFlags struct {
	addr     string
	hosts    []string
	key      string
	parallel int
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
  GET  /v1/models  /health

Commands get the sandbox that the flags describe; a request cannot change it.
Beyond loopback a key is needed, which clients send as "Authorization: Bearer KEY".`,
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
	fs.IntVar(&f.parallel, "parallel", 0, "`number` of requests that the model answers at once; 0: 4")
	f.engine.register(fs)
	f.sandbox.register(fs)
	return cmd
}

func (f *serveFlags) run(ctx context.Context, std stdio) (err error) {
	key := cmp.Or(f.key, os.Getenv("LM_SANDBOX_KEY"))
	if err := server.CheckKey(f.addr, key); err != nil { // before the address is open and the model is loaded
		return usage(err, "see 'lm-sandbox serve --help'")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", f.addr)
	if err != nil {
		return &failure{code: exitService, err: err, hint: "choose another address with --addr"}
	}
	defer func() { _ = ln.Close() }() // again, where Serve has
	e, m, err := f.engine.open(ctx, std, f.parallel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	s, err := server.New(server.Options{
		Engine: e, ModelName: m.Name, Sandbox: f.sandbox.config(),
		Addr: f.addr, AllowedHosts: f.hosts, Key: key,
		OllamaURL: os.Getenv("OLLAMA_URL"), OllamaModel: os.Getenv("OLLAMA_MODEL"),
		Logger: slog.New(slog.NewTextHandler(std.err, nil)),
	})
	if err != nil {
		return usage(err, "see 'lm-sandbox serve --help'")
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
