package engine

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// GenerateInto asks for a message that is a value of T, in JSON. The schema is
// made from T (https://pkg.go.dev/github.com/google/jsonschema-go/jsonschema#For:
// json tags name the properties, omitempty makes them optional, jsonschema tags
// describe them) and enforced while sampling; the messages should say what is
// wanted. r must have no Tools, Schema, Grammar, Regex or Choices, and no N above 1.
//
// Strings and lists have no length limit in a Go type: set MaxTokens, or a small
// model may go on until the context is full.
//
// # Errors
//
//   - [*ErrOutput] when the output is no value of T, most often because it was cut
//   - [*ErrInvalid] for a T that has no schema
//   - those of [Engine.Chat]
func GenerateInto[T any](ctx context.Context, e *Engine, r ChatRequest) (T, Result, error) {
	var value T
	if len(r.Tools) > 0 || len(r.Schema) > 0 || r.Grammar != "" || r.Regex != "" || len(r.Choices) > 0 {
		return value, Result{}, invalid("ChatRequest", "GenerateInto sets the schema: Tools, Schema, Grammar, Regex and Choices must be empty")
	}
	if r.N > 1 {
		return value, Result{}, invalid("ChatRequest.N", "GenerateInto gives one value: leave N out, or call it %d times", r.N)
	}
	schema, err := schemaOf[T]()
	if err != nil {
		return value, Result{}, invalid("T", "no JSON schema: %v", err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		return value, Result{}, invalid("T", "no JSON schema: %v", err)
	}
	if r.Schema, err = json.Marshal(schema); err != nil {
		return value, Result{}, invalid("T", "no JSON schema: %v", err)
	}
	var text strings.Builder
	var result Result
	for d, err := range e.Chat(ctx, r) {
		if d.Result != nil {
			result = *d.Result
		}
		if err != nil {
			return value, result, err
		}
		text.WriteString(d.Content)
	}
	if err := decodeInto(text.String(), resolved, &value); err != nil {
		var zero T
		return zero, result, &ErrOutput{Text: text.String(), FinishReason: result.FinishReason, Err: err}
	}
	return value, result, nil
}

// schemaOf differs from jsonschema.For where llama.cpp needs more: it knows no
// schema "true", and can enforce the form of a time.
func schemaOf[T any]() (*jsonschema.Schema, error) {
	anything := &jsonschema.Schema{Types: []string{"null", "boolean", "number", "string", "array", "object"}}
	return jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[any]():             anything,
		reflect.TypeFor[json.RawMessage](): anything,
		reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
	}})
}

func decodeInto(text string, schema *jsonschema.Resolved, value any) error {
	var plain any
	if err := json.Unmarshal([]byte(text), &plain); err != nil {
		return err
	}
	if err := schema.Validate(plain); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), value)
}
