package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// workerVariable tells a process that it is a worker; its socket is workerFD.
const (
	workerVariable = "LM_SANDBOX_WORKER"
	workerFD       = 3
)

var canBeWorker atomic.Bool

// RunWorker makes the calling program able to be the worker of its own engines with
// Params.Isolated. It is the first line of main, and of TestMain: in a worker process
// it runs the engine and never returns, in every other one it returns at once.
//
//	func main() {
//		engine.RunWorker()
//		…
//	}
//
// A worker ends with the process that has started it, however that one ends.
func RunWorker() {
	canBeWorker.Store(true)
	if os.Getenv(workerVariable) == "" {
		return
	}
	// Children of the worker are none.
	if err := os.Unsetenv(workerVariable); err != nil {
		panic(err)
	}
	if err := syscall.SetNonblock(workerFD, true); err != nil {
		fmt.Fprintf(os.Stderr, "%s is set, but there is no socket to a parent: %v\n", workerVariable, err)
		os.Exit(2)
	}
	syscall.CloseOnExec(workerFD)
	serveWorker(os.NewFile(workerFD, "worker"))
	os.Exit(0)
}

// openRequest is the first call of each connection.
type openRequest struct {
	Path      string
	Params    Params
	Preflight bool // frameAsk is answered
	Progress  bool // deltas are fractions
	Compiler  bool // of the Params only ChatTemplate counts
	Logs      slog.Level
}

type openReply struct{ HasChatTemplate bool }

type callRequest struct {
	Method  string
	Timeout time.Duration // 0 = none
	Request []byte
}

type callEnd struct {
	Err   wireError
	Reply []byte
}

// wireTypesHash covers everything that crosses.
var wireTypesHash = sync.OnceValue(func() uint64 {
	return typeHash(
		reflect.TypeFor[openRequest](), reflect.TypeFor[openReply](), reflect.TypeFor[callRequest](), reflect.TypeFor[callEnd](), reflect.TypeFor[llama.MemoryNeed](),
		reflect.TypeFor[Request](), reflect.TypeFor[Delta](), reflect.TypeFor[ChatRequest](), reflect.TypeFor[ChatDelta](), reflect.TypeFor[Stats](),
		reflect.TypeFor[embedCall](), reflect.TypeFor[embedReply](),
		reflect.TypeFor[llama.ChatTemplateRequest](), reflect.TypeFor[llama.ChatPrompt](), reflect.TypeFor[grammarCheck](),
	)
})

// workerServer is the worker's side of a connection.
type workerServer struct {
	wire     *wire
	engine   *Engine
	compiler *compilerServer // instead of the engine

	mu    sync.Mutex
	calls map[uint64]*servedCall
}

// servedCall is a call that has not ended.
type servedCall struct {
	id      uint64
	server  *workerServer
	ctx     context.Context
	cancel  context.CancelFunc
	credits chan struct{} // deltas that may be sent
	answers chan []byte
}

// workerMethods are what a worker can be asked for, once it is open.
var workerMethods = map[string]func(c *servedCall, request []byte) (reply any, err error){
	"generate": func(c *servedCall, request []byte) (any, error) {
		return serveStream(c, request, c.server.engine.Generate)
	},
	"chat": func(c *servedCall, request []byte) (any, error) { return serveStream(c, request, c.server.engine.Chat) },
	"count": func(c *servedCall, request []byte) (any, error) {
		return serveCall(c, request, c.server.engine.CountTokens)
	},
	"embed": func(c *servedCall, request []byte) (any, error) {
		return serveCall(c, request, c.server.engine.serveEmbed)
	},
	"apply": func(c *servedCall, request []byte) (any, error) {
		return serveCall(c, request, c.server.compiler.apply)
	},
	"check": func(c *servedCall, request []byte) (any, error) {
		return serveCall(c, request, c.server.compiler.check)
	},
	"ping":  func(*servedCall, []byte) (any, error) { return true, nil },
	"stats": func(c *servedCall, _ []byte) (any, error) { return c.server.engine.Stats(), nil },
	"close": func(c *servedCall, _ []byte) (any, error) {
		err := c.server.engine.Close()
		return c.server.engine.Stats(), err
	},
}

// serveWorker runs until the other process is gone.
func serveWorker(conn *os.File) {
	s := &workerServer{wire: newWire(conn), calls: map[uint64]*servedCall{}}
	_ = s.wire.send(frame{kind: frameHello, id: wireTypesHash()})
	for {
		f, err := s.wire.receive()
		if err != nil {
			return // the engine is closed or its process gone: there is nobody to tell anything
		}
		s.handle(f)
	}
}

func (s *workerServer) handle(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[f.id]
	switch {
	case f.kind == frameCall:
		c = s.newCall(f)
		go c.serve(f.payload)
	case c == nil: // has just ended
	case f.kind == frameCancel:
		c.cancel()
	case f.kind == frameCredit:
		for range wireWindow / 2 {
			c.credits <- struct{}{}
		}
	case f.kind == frameAnswer:
		c.answers <- f.payload
	}
}

func (s *workerServer) newCall(f frame) *servedCall {
	c := &servedCall{id: f.id, server: s, credits: make(chan struct{}, 2*wireWindow), answers: make(chan []byte, 1)}
	c.ctx, c.cancel = context.WithCancel(context.WithValue(context.Background(), callKey{}, f.id))
	for range wireWindow {
		c.credits <- struct{}{}
	}
	s.calls[f.id] = c
	return c
}

func (c *servedCall) serve(payload []byte) {
	defer c.cancel()
	reply, err := c.run(payload)
	end := callEnd{Err: newWireError(err)}
	if reply != nil {
		if end.Reply, err = encodeWire(reply, "reply"); err != nil {
			end.Err = newWireError(err)
		}
	}
	b, err := encodeWire(end, "end")
	c.server.mu.Lock()
	delete(c.server.calls, c.id)
	c.server.mu.Unlock()
	if err == nil {
		err = c.server.wire.send(frame{frameEnd, c.id, b})
	}
	if err == nil {
		return
	}
	// The answer is too long; that it is can be told.
	if b, err = encodeWire(callEnd{Err: newWireError(err)}, "end"); err == nil {
		err = c.server.wire.send(frame{frameEnd, c.id, b})
	}
	if err != nil {
		panic(err) // the caller must not wait for ever
	}
}

func (c *servedCall) run(payload []byte) (any, error) {
	call, err := decodeWire[callRequest](payload)
	if err != nil {
		return nil, err
	}
	if call.Timeout > 0 {
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithTimeout(c.ctx, call.Timeout)
		defer cancel()
	}
	if call.Method == "open" {
		return c.open(call.Request)
	}
	return workerMethods[call.Method](c, call.Request)
}

// open makes the engine. What it and llama.cpp log goes to stderr, which the other
// process reads.
func (c *servedCall) open(payload []byte) (any, error) {
	r, err := decodeWire[openRequest](payload)
	if err != nil {
		return nil, err
	}
	r.Params.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: r.Logs, ReplaceAttr: withoutTime}))
	llama.SetLogger(r.Params.Logger)
	if r.Compiler {
		if c.server.compiler, err = newCompilerServer(c.ctx, r.Path, r.Params.ChatTemplate); err != nil {
			return nil, err
		}
		return openReply{HasChatTemplate: c.server.compiler.template != nil}, nil
	}
	if r.Params.compiler, err = newCompiler(c.ctx, r.Path, r.Params); err != nil {
		return nil, err
	}
	if r.Preflight {
		r.Params.Preflight = c
	}
	if r.Progress {
		r.Params.Model.Progress = func(fraction float32) { _ = c.delta(fraction) }
	}
	if c.server.engine, err = Open(c.ctx, r.Path, r.Params); err != nil {
		return nil, err
	}
	go c.server.watch()
	return openReply{HasChatTemplate: c.server.engine.HasChatTemplate()}, nil
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// errPreflight stands for the error of a Preflight, which stays where it is.
var errPreflight = errors.New("engine: refused by the preflight")

// CheckModel asks the other process.
func (c *servedCall) CheckModel(ctx context.Context, need llama.MemoryNeed) error {
	b, err := encodeWire(need, "MemoryNeed")
	if err != nil {
		return err
	}
	if err := c.server.wire.send(frame{frameAsk, c.id, b}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b := <-c.answers:
		refused, err := decodeWire[bool](b)
		if err == nil && refused {
			err = errPreflight
		}
		return err
	}
}

// delta sends a piece of the answer, and waits while too many are on the way.
func (c *servedCall) delta(d any) error {
	b, err := encodeWire(d, "delta")
	if err != nil {
		return err
	}
	select {
	case <-c.credits:
		return c.server.wire.send(frame{frameDelta, c.id, b})
	case <-c.ctx.Done():
		return nil // the request says so itself
	}
}

func serveStream[R, D any](c *servedCall, request []byte, run func(context.Context, R) iter.Seq2[D, error]) (any, error) {
	r, err := decodeWire[R](request)
	if err != nil {
		return nil, err
	}
	for d, err := range run(c.ctx, r) {
		if err != nil {
			return d, err
		}
		if err := c.delta(d); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func serveCall[R, A any](c *servedCall, request []byte, run func(context.Context, R) (A, error)) (any, error) {
	r, err := decodeWire[R](request)
	if err != nil {
		return nil, err
	}
	return run(c.ctx, r)
}
