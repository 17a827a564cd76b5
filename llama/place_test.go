package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestSchemaErrorsHaveThePointer(t *testing.T) {
	for _, tt := range []struct{ schema, place string }{
		{`{"type":"object","properties":{"a/b":{"type":"strin"}}}`, "/properties/a~1b/type"},
		{`{"anyOf":[{"type":"string"},{"type":"string","pattern":"a"}]}`, "/anyOf/1/pattern"},
		{`{"items":{"$ref":"#/nowhere"}}`, "/items/$ref"},
		{`{"items":{"$ref":"#/$defs/x"},"$defs":{"x":{"items":{"type":7}}}}`, "/$defs/x/items/type"},
		{`{"a":}`, "6"},
	} {
		_, err := llama.SchemaToGrammar([]byte(tt.schema))
		require.ErrorIs(t, err, llama.ErrInvalidSchema, tt.schema)
		var fault *llama.PlaceError
		require.ErrorAs(t, err, &fault)
		require.Equal(t, tt.place, fault.Place, "%v", err)
	}
}

func TestGrammarErrorsHaveTheColumn(t *testing.T) {
	m := fixtureModel(t)
	for grammar, place := range map[string]string{
		"root ::= b":                         "1:10",
		"root ::= \"a\"\nx ::= [a":           "2:9",
		"root ::= a\na ::= b\nb ::= a \"x\"": "2:1",
		"root ::= (":                         "1:11",
	} {
		var fault *llama.PlaceError
		require.ErrorAs(t, llama.CheckGrammar(m, grammar), &fault, grammar)
		require.Equal(t, place, fault.Place, "%v", fault)
	}
}
