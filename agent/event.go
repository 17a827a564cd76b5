package agent

import (
	"encoding/json"
	"time"
)

// Event is what happens in a run: [Text], [Call], [Result] or [Done].
type Event interface{ event() }

// Text is a piece of what the model writes beside its calls. That of the last step is
// the answer, which [Done] has as a whole.
type Text struct {
	Content   string
	Reasoning string // where the model marks it
}

// Call is a call that the model wants, before it is approved and made.
type Call struct {
	ID        string
	Tool      string
	Arguments json.RawMessage
}

// Result is the end of a call.
type Result struct {
	Call Call
	// Output is what the model is shown.
	Output string
	// LeftOut is the number of bytes that it is not shown.
	LeftOut int
	// Refused says that Approve refused the call: it was not made.
	Refused bool
	// Err is the tool's error, nil if there was none. The model is told its text. A
	// command that fails is none; its exit code is in Output.
	Err      error
	Duration time.Duration
}

// Done is the last event of every run that began, with its error beside it if it has one.
type Done struct {
	Answer string // "" with an error
	Usage  Usage
}

// Usage is what a run took.
type Usage struct {
	Steps  int // answers of the model, calls included
	Calls  int // calls that were made
	Prompt int // tokens that the model read, in all steps together
	Output int // tokens that it wrote
	Wall   time.Duration
}

func (Text) event()   {}
func (Call) event()   {}
func (Result) event() {}
func (Done) event()   {}
