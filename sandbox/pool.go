package sandbox

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// Pool keeps sandboxes ready that nobody has used yet, so that a command starts in
// about the time of a plain fork and exec. Each one runs one command, or one
// session, and dies with it: nothing of a command is there for the next. The
// place of one that is taken, or that died while it waited, is filled in the
// background; a command that finds none ready starts cold, as by [Run].
//
// The sandboxes are built from one Config; a [Lease] adds what belongs to one
// command. A waiting one holds about half a megabyte of the host's memory and five
// open files of this process, and runs nothing (docs/pool.md).
//
// Its methods may be called from any number of goroutines.
type Pool struct {
	config Config
	impl   *pool
}

// Lease is what one command of a [Pool] has of its own. The zero value is a
// command as the pool's Config has it.
type Lease struct {
	// Workspace replaces Config.Workspace, and is attached as the command starts.
	// To a root caller's pool it always comes by an idmapped mount, unless it is
	// owned by the uid that the pool's sandboxes have: where the filesystem has none,
	// and where a directory was mounted after the waiting sandbox was built, the
	// command starts cold.
	Workspace string
	// Env is added to Config.Env, and replaces what has the same name.
	Env map[string]string
	// Dir replaces Config.Dir.
	Dir string
	// Stdin, Stdout and Stderr are as in Config, where they must be nil for a pool.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// with is the pool's Config as changed by the lease.
func (l Lease) with(c Config) Config {
	if l.Workspace != "" {
		c.Workspace = l.Workspace
	}
	if l.Dir != "" {
		c.Dir = l.Dir
	}
	if len(l.Env) > 0 {
		env := maps.Clone(c.Env)
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, l.Env)
		c.Env = env
	}
	c.Stdin, c.Stdout, c.Stderr = l.Stdin, l.Stdout, l.Stderr
	return c
}

// PoolStats counts since the pool was made.
type PoolStats struct {
	Ready int // sandboxes that wait now
	// Warm commands had a waiting sandbox. Cold ones had none: none was ready, or
	// the workspace could not be attached to one.
	Warm, Cold uint64
	// Died is how many ended while they waited: by the kernel when memory ran out, for example.
	Died uint64
	// Failed is how many could not be built, LastError why the last of them was not: as of [Run].
	Failed    uint64
	LastError error
}

// ErrPoolClosed is a [Pool] that was closed. errors.Is(err, os.ErrClosed) holds too.
var ErrPoolClosed = fmt.Errorf("sandbox: the pool is closed: %w", os.ErrClosed)

// NewPool makes a pool of size sandboxes. It returns when the first is there, so
// that what is wrong with c or with the host is told here; later failures are
// told by Stats, and by the commands, which then start cold. A failed one is tried
// again after 50 ms, and after twice that each time, up to 5 s. Close must be called.
//
// # Errors
//
// Those of [Run].
func NewPool(c Config, size int) (*Pool, error) {
	if size < 1 {
		return nil, &ErrConfig{"size", "a pool needs at least 1"}
	}
	if c.Overlay != nil {
		return nil, &ErrConfig{"Overlay", "one sandbox at a time can have it, and a pool has many"}
	}
	if c.Stdin != nil || c.Stdout != nil || c.Stderr != nil {
		return nil, &ErrConfig{"Stdin", "the streams of a pool's commands are those of their Lease"}
	}
	c.Env, c.Binds = maps.Clone(c.Env), slices.Clone(c.Binds)
	c.Protect, c.Devices = slices.Clone(c.Protect), slices.Clone(c.Devices)
	c.Allow.Rules, c.Allow.Private = slices.Clone(c.Allow.Rules), slices.Clone(c.Allow.Private)
	p, err := newPool(c, size)
	if err != nil {
		return nil, err
	}
	return &Pool{c, p}, nil
}

// Run is [Run] in a sandbox of the pool. The wall time and the sandbox's clocks
// begin with the call.
//
// # Errors
//
// Those of [Run], and [ErrPoolClosed].
func (p *Pool) Run(ctx context.Context, l Lease, command string) (Result, error) {
	return runIn(ctx, p.impl.execute, l.with(p.config), command)
}

// Start is [Start] in a sandbox of the pool. Its errors are those of Run.
func (p *Pool) Start(ctx context.Context, l Lease, argv ...string) (*Process, error) {
	return startIn(ctx, p.impl.execute, l.with(p.config), argv)
}

// Session is [NewSession] in a sandbox of the pool. Its errors are those of Run.
func (p *Pool) Session(ctx context.Context, l Lease) (*Session, error) {
	return sessionIn(ctx, p.impl.execute, l.with(p.config))
}

// Stats says how the pool fares.
func (p *Pool) Stats() PoolStats { return p.impl.stats() }

// Close ends the sandboxes that wait, and returns when they are gone. Commands and
// sessions that are running go on. It may be called more than once.
func (p *Pool) Close() error { return p.impl.close() }
