package llama

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

const (
	// maxSchema is the size of the largest JSON schema that is translated.
	maxSchema = 256 << 10
	// maxSchemaCubes bounds the translation's time, which grows with the cube of the number of an object's optional
	// properties: 500 in one object take half a second.
	maxSchemaCubes = 500 * 500 * 500
)

func checkSchema(schema []byte, strict bool) (schemaCost, error) {
	if len(schema) > maxSchema {
		return schemaCost{}, errorf(ErrInvalidSchema, "the JSON schema has %d bytes, at most %d are allowed", len(schema), maxSchema)
	}
	if err := checkJSON(schema); err != nil {
		fault := &PlaceError{What: "JSON schema", Text: err.Error()}
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(schema, new(any)), &syntax) {
			fault.Place, fault.Text = fmt.Sprint(syntax.Offset), "not valid JSON: "+syntax.Error()
		}
		return schemaCost{}, fault
	}
	cost, err := walkSchema(schema, strict)
	if err != nil {
		return cost, schemaError(err)
	}
	return cost, nil
}

// SchemaToGrammar translates a JSON schema to a GBNF grammar. Schemas from strangers are held to limits: 256 KiB, 100 levels,
// 500 properties in an object, 5000 subschemas, 1000 bytes for a name or pattern, no subschema that contains itself through
// allOf, and those of [CheckGrammar] for the result. A pattern that llama.cpp cannot enforce is refused, too.
//
// # Errors
//
//   - [ErrInvalidSchema] for what is no schema, too large, too deeply nested or not expressible; a [*PlaceError] where the
//     place is known
//
// C: json_schema_to_grammar
func SchemaToGrammar(schema []byte) (string, error) {
	if _, err := checkSchema(schema, true); err != nil {
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
		return "", errorf(ErrInvalidSchema, "the JSON schema gives a grammar that cannot be used: %s", strings.TrimPrefix(err.Error(), "llama: "))
	}
	return g, nil
}
