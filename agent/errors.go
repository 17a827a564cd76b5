package agent

import "fmt"

// LimitKind names a limit of a run.
type LimitKind string

// The limits of a run.
const (
	LimitSteps   LimitKind = "steps"   // Config.MaxSteps
	LimitTokens  LimitKind = "tokens"  // Config.MaxTokens
	LimitWall    LimitKind = "wall"    // Config.Wall
	LimitContext LimitKind = "context" // of the model: the conversation does not fit
)

// ErrLimit says that a limit was reached before the model had answered.
type ErrLimit struct {
	Limit LimitKind
	Err   error // of the context: llama.ErrContextFull, where the engine has told
}

func (e *ErrLimit) Error() string {
	const text = "agent: no answer within the limit of "
	switch e.Limit {
	case LimitSteps:
		return text + "steps: the task may be too hard for the model, or MaxSteps too small"
	case LimitTokens:
		return text + "tokens: the task may be too hard for the model, or MaxTokens too small"
	case LimitWall:
		return text + "time: set a longer Wall"
	}
	if e.Err != nil {
		return fmt.Sprintf("agent: the model's context is full: %v: make NCtx larger or MaxResult smaller", e.Err)
	}
	return "agent: the model's context is full: make NCtx larger or MaxResult smaller"
}

func (e *ErrLimit) Unwrap() error { return e.Err }

// ErrInvalid names the field of [Config] that cannot be used. Nothing was started.
type ErrInvalid struct {
	Field  string
	Reason string
}

func (e *ErrInvalid) Error() string { return fmt.Sprintf("agent: %s: %s", e.Field, e.Reason) }

func invalid(field, format string, args ...any) error {
	return &ErrInvalid{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ErrPanic is a tool whose function panicked. It ends the run.
type ErrPanic struct {
	Tool  string
	Value any    // of the panic
	Stack []byte // of the goroutine, as runtime/debug.Stack has it
}

func (e *ErrPanic) Error() string {
	return fmt.Sprintf("agent: the tool %s panicked: %v", e.Tool, e.Value)
}

// Unwrap is the value of the panic where that is an error.
func (e *ErrPanic) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// fatal is an error that ends the run.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// Fatal marks the error of a tool as one that ends the run, instead of being told to
// the model. The run's error wraps err.
func Fatal(err error) error { return fatal{err} }
