package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Tool is a function that the model may call.
type Tool struct {
	Name        string // letters, digits and _ - . : /
	Description string // for the model
	// Schema is the JSON schema of the arguments, an object; empty = there are none.
	Schema json.RawMessage
	// Call is called with arguments that follow Schema, in the goroutine of the run. It
	// should return when ctx is done. Its error is told to the model, unless it is [Fatal].
	Call func(ctx context.Context, arguments json.RawMessage) (string, error)

	err error // of Func
}

// Func makes a tool of a function. T is a struct; its JSON schema becomes the tool's: json
// tags name the arguments, omitempty makes them optional, jsonschema tags describe them
// (https://pkg.go.dev/github.com/google/jsonschema-go/jsonschema#For). A T that has no
// schema is an error of [Run].
func Func[T any](name, description string, fn func(ctx context.Context, arguments T) (string, error)) Tool {
	t := Tool{Name: name, Description: description}
	schema, err := schemaOf[T]()
	if err != nil {
		t.err = err
		return t
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.err = fmt.Errorf("no JSON schema: %w", err)
		return t
	}
	if t.Schema, err = json.Marshal(schema); err != nil {
		t.err = fmt.Errorf("no JSON schema: %w", err)
		return t
	}
	t.Call = func(ctx context.Context, arguments json.RawMessage) (string, error) {
		var plain any
		if err := json.Unmarshal(arguments, &plain); err != nil {
			return "", fmt.Errorf("the arguments are not JSON: %w", err)
		}
		if err := resolved.Validate(plain); err != nil {
			return "", fmt.Errorf("the arguments do not follow the schema: %w", err)
		}
		var value T
		if err := json.Unmarshal(arguments, &value); err != nil {
			return "", fmt.Errorf("the arguments do not fit: %w", err)
		}
		return fn(ctx, value)
	}
	return t
}

func schemaOf[T any]() (*jsonschema.Schema, error) {
	if t := reflect.TypeFor[T](); t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("the arguments are a %v: want a struct", t)
	}
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		return nil, fmt.Errorf("no JSON schema: %w", err)
	}
	return schema, nil
}

// declaration is what the model is told of the tool.
func (t Tool) declaration() llama.Tool {
	return llama.Tool{Name: t.Name, Description: t.Description, Parameters: t.Schema}
}

// run calls the tool, and makes an error of a panic.
func (t Tool) run(ctx context.Context, arguments json.RawMessage) (output string, err error) {
	defer func() {
		if v := recover(); v != nil {
			output, err = "", Fatal(&ErrPanic{Tool: t.Name, Value: v, Stack: debug.Stack()})
		}
	}()
	return t.Call(ctx, arguments)
}
