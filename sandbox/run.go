package sandbox

import "context"

// Run runs a command line in bash in a new sandbox and returns when the last
// process of it is gone: what the command left in the background is killed.
//
// The error says that the command could not be run, or that it was stopped
// because ctx ended (errors.Is(err, ctx.Err())); the Result then holds what
// there is. A command that fails, or exceeds a limit, is a Result and no error.
//
// Run may be called from any number of goroutines.
//
// # Errors
//
// [ErrConfig], [ErrLevel] and in it [ErrUserNamespace], [ErrOwner], [ErrDevice],
// [ErrOverlay], [ErrBusy], [ErrOverlayClosed], [ErrExec] (no bash), [ErrSetup],
// [ErrStream], [ErrAudit], [ErrUnsupported].
func Run(ctx context.Context, c Config, command string) (Result, error) {
	return runIn(ctx, execute, c, command)
}

// executor starts a program: in a new sandbox, or in one of a pool.
type executor func(ctx context.Context, c Config, path string, argv []string, session bool) (*process, error)

func runIn(ctx context.Context, execute executor, c Config, command string) (Result, error) {
	a := c.audit(ctx, "run", command)
	p, err := a.follow(bash(ctx, execute, c, command))
	if err != nil {
		return Result{}, err
	}
	return p.Wait()
}

func bash(ctx context.Context, execute executor, c Config, command string) (*process, error) {
	if err := checkCommand(command); err != nil {
		return nil, err
	}
	return execute(ctx, c, "/bin/bash", []string{"bash", "-c", command}, false)
}

// Start starts a program in a new sandbox and returns once it is executing. A
// name without a slash is looked up in the PATH inside. ctx ends the program
// as in [Run]. Where Limits.Wall is over before that there is a Process all the same,
// whose Result says LimitTimeout, even if the program does not exist. Wait must be
// called, and frees what the process holds.
//
// # Errors
//
// Those of [Run].
func Start(ctx context.Context, c Config, argv ...string) (*Process, error) {
	return startIn(ctx, execute, c, argv)
}

func startIn(ctx context.Context, execute executor, c Config, argv []string) (*Process, error) {
	a := c.audit(ctx, "process", argv...)
	if err := checkArgv(argv); err != nil {
		return a.follow(nil, err)
	}
	return a.follow(execute(ctx, c, argv[0], argv, false))
}
