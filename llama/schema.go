package llama

import (
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// maxSchema is the size of the largest JSON schema that is translated.
const maxSchema = 256 << 10

func checkSchema(schema []byte) error {
	if len(schema) > maxSchema {
		return errorf(ErrInvalidSchema, "the JSON schema has %d bytes, at most %d are allowed", len(schema), maxSchema)
	}
	if err := checkJSON(schema); err != nil {
		return errorf(ErrInvalidSchema, "JSON schema: %v", err)
	}
	return nil
}

// SchemaToGrammar translates a JSON schema to a GBNF grammar. Schemas from strangers are held to limits: 256 KiB, 100 levels,
// and those of [CheckGrammar] for the result.
//
// # Errors
//
//   - [ErrInvalidSchema] for what is no schema, too large, too deeply nested or not expressible
//
// C: json_schema_to_grammar
func SchemaToGrammar(schema []byte) (string, error) {
	if err := checkSchema(schema); err != nil {
		return "", err
	}
	if err := native.Init(); err != nil {
		return "", fromNative(err, ErrUnsupported, "llama.cpp")
	}
	g, err := native.SchemaToGrammar(string(schema))
	if err != nil {
		return "", fromNative(err, ErrInvalidSchema, "JSON schema")
	}
	if err := checkGrammarText(g); err != nil {
		return "", errorf(ErrInvalidSchema, "the JSON schema's %s", strings.TrimPrefix(err.Error(), "llama: "))
	}
	return g, nil
}
