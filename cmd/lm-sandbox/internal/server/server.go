package server

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// DefaultAddr is where the service listens unless told otherwise: this machine only.
const DefaultAddr = "127.0.0.1:8000"

// DefaultOllamaURL is the upstream of POST /ollama/ unless told otherwise.
const DefaultOllamaURL = "http://localhost:2234/v1/chat/completions"

// Engine is what the service needs of [engine.Engine].
type Engine interface {
	Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error]
	Generate(ctx context.Context, r engine.Request) iter.Seq2[engine.Delta, error]
	HasChatTemplate() bool
}

// Options configures a [Server]. Only Engine and ModelName have no default.
type Options struct {
	Engine    Engine // stays the caller's: close it after Serve has returned
	ModelName string // reported by /v1/models and in every completion

	Sandbox         sandbox.Config // what every command of /run-bash/ gets; requests cannot change it
	Pool            *sandbox.Pool  // made of Sandbox, for commands to start faster; nil = none. It stays the caller's
	MaxSandboxes    int            // commands at once; 0 = one per CPU, at least 4
	MaxSandboxQueue int            // commands that may wait for their turn, the next get 429; 0 = 256

	Addr         string   // host:port the service will listen on; "" = DefaultAddr. Decides whether a key is required
	AllowedHosts []string // further names clients may reach it by (the Host header), besides localhost and Addr's
	Key          string   // "" = none: refused beyond loopback

	OllamaURL     string        // chat completions URL of an OpenAI-compatible upstream; "" = DefaultOllamaURL
	OllamaModel   string        // "" = the first of the upstream's models
	OllamaTimeout time.Duration // for one whole upstream answer; 0 = 2 minutes

	MaxBody       int64         // bytes of one request's body; 0 = 1 MiB
	ShutdownGrace time.Duration // how long Serve lets answers finish once its ctx is done; 0 = 10 s
	Logger        *slog.Logger  // nil = silent
}

// Server answers the endpoints of the package comment. Its methods may be called
// from several goroutines.
type Server struct {
	engine    Engine
	model     modelObject
	guard     *guard
	bash      bashRunner
	upstream  *upstream
	routes    map[string]route
	log       *slog.Logger
	maxBody   int64
	grace     time.Duration
	timeouts  timeouts
	isClosing atomic.Bool
}

// timeouts bound what a client can hold of the service without making progress.
type timeouts struct {
	header time.Duration // to send the headers
	body   time.Duration // to send headers and body
	idle   time.Duration // between two requests of one connection
	write  time.Duration // for the client to take one write of an answer
}

// cancelGrace is how long a cancelled generation or command may take to end: a step of
// the model, the kill of a process tree.
const cancelGrace = 5 * time.Second

// New returns the service for o, or a [KeyRequiredError] or [OptionError].
func New(o Options) (*Server, error) {
	if o.Engine == nil {
		return nil, &OptionError{"Engine", "is required"}
	}
	if o.ModelName == "" {
		return nil, &OptionError{"ModelName", "is required"}
	}
	if o.Sandbox.Stdin != nil || o.Sandbox.Stdout != nil || o.Sandbox.Stderr != nil {
		return nil, &OptionError{"Sandbox", "Stdin, Stdout and Stderr must be nil: all commands would share them"}
	}
	if o.Addr == "" {
		o.Addr = DefaultAddr
	}
	if err := CheckKey(o.Addr, o.Key); err != nil {
		return nil, err
	}
	g, err := newGuard(o.Addr, o.AllowedHosts, o.Key)
	if err != nil {
		return nil, err
	}
	up, err := newUpstream(o.OllamaURL, o.OllamaModel, o.OllamaTimeout)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		engine:   o.Engine,
		model:    newModelObject(o.ModelName),
		guard:    g,
		bash:     newBashRunner(o),
		upstream: up,
		log:      o.Logger,
		maxBody:  orDefault(o.MaxBody, 1<<20),
		grace:    orDefault(o.ShutdownGrace, 10*time.Second),
		timeouts: timeouts{header: 10 * time.Second, body: 30 * time.Second, idle: 2 * time.Minute, write: 30 * time.Second},
	}
	s.routes = s.newRoutes()
	return s, nil
}

// CheckKey returns what [New] would say of an address and a key: a
// [KeyRequiredError], an [OptionError], or nil. It is for callers that have work
// to do before they can call New.
func CheckKey(addr, key string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return &OptionError{"Addr", "\"" + addr + "\" is not host:port"}
	}
	if key == "" && !loopbackHost(host) {
		return &KeyRequiredError{Addr: addr}
	}
	for _, c := range key {
		if c <= ' ' || c > '~' {
			return &OptionError{"Key", "holds a space or a character that no HTTP header can carry: use printable ASCII"}
		}
	}
	return nil
}

func newBashRunner(o Options) bashRunner {
	turns := newGate(orDefault(o.MaxSandboxes, max(4, runtime.GOMAXPROCS(0))), orDefault(o.MaxSandboxQueue, 256))
	run := sandbox.Run
	if o.Pool != nil {
		run = func(ctx context.Context, _ sandbox.Config, command string) (sandbox.Result, error) {
			return o.Pool.Run(ctx, sandbox.Lease{}, command)
		}
	}
	return bashRunner{config: o.Sandbox, gate: turns, run: run}
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Serve answers on ln until ctx is done, then lets the requests in flight finish for
// [Options.ShutdownGrace], cancels the rest and returns nil. It closes ln. An error
// means that ln failed, or that ln is reachable beyond loopback without a key. A Server
// serves once: afterwards it answers 503.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !s.guard.hasKey && !tcp.IP.IsLoopback() {
		return errors.Join(&KeyRequiredError{Addr: tcp.String()}, ln.Close())
	}
	defer s.upstream.close()

	// Requests outlive ctx by the grace period: they have a context of their own.
	requests, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errClosing)
	srv := &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: s.timeouts.header,
		ReadTimeout:       s.timeouts.body,
		IdleTimeout:       s.timeouts.idle,
		MaxHeaderBytes:    64 << 10,
		// net/http would answer "OPTIONS *" by itself, past the guards.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return errors.Join(err, srv.Close())
	case <-ctx.Done():
	}
	err := s.shutdown(srv, cancel)
	if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) { // as soon as a shutdown has begun
		err = errors.Join(err, ended)
	}
	return err
}

// shutdown ends srv: what is in flight gets the grace period, then its context is
// cancelled, which ends generations and commands, then connections are cut.
func (s *Server) shutdown(srv *http.Server, cancel context.CancelCauseFunc) error {
	s.isClosing.Store(true)
	ctx, stop := context.WithTimeout(context.Background(), s.grace)
	defer stop()
	if err := srv.Shutdown(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.log.Warn("requests are still running after the grace period: cancelling them", "grace", s.grace)
	cancel(errClosing)
	ctx, stop = context.WithTimeout(context.Background(), cancelGrace)
	defer stop()
	if err := srv.Shutdown(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return srv.Close()
}
