package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func TestMoveRefs(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"one", `{"$ref":"#/$defs/a"}`, `{"$ref":"#/x/$defs/a"}`},
		{"the schema itself", `{"items":{"$ref":"#"}}`, `{"items":{"$ref":"#/x"}}`},
		{"anywhere, in order", `{"z":1, "properties":{"b":{"$ref":"#/b"},"a":{"items":{"$ref":"#/a"}}}}`, `{"z":1,"properties":{"b":{"$ref":"#/x/b"},"a":{"items":{"$ref":"#/x/a"}}}}`},
		{"in a list", `{"anyOf":[{"$ref":"#/a"},{"not":{"$ref":"#/b"}},true,null,-1.5e3]}`, `{"anyOf":[{"$ref":"#/x/a"},{"not":{"$ref":"#/x/b"}},true,null,-1.5e3]}`},
		{"with escapes", `{"$ref":"#/\"\\a~0%41"}`, `{"$ref":"#/x/\"\\a~0%41"}`},
		{"a key with escapes", `{"\u0024ref":"#/a"}`, `{"\u0024ref":"#/x/a"}`},
		{"of another document", `{"$ref":"https://example.com/#/a"}`, `{"$ref":"https://example.com/#/a"}`},
		{"an anchor", `{"$ref":"#a"}`, `{"$ref":"#a"}`},
		{"const", `{"const":{"$ref":"#/a"}}`, `{"const":{"$ref":"#/a"}}`},
		{"enum", `{"enum":[{"$ref":"#/a"},"#/a"]}`, `{"enum":[{"$ref":"#/a"},"#/a"]}`},
		{"default", `{"default":{"items":{"$ref":"#/a"}}}`, `{"default":{"items":{"$ref":"#/a"}}}`},
		{"examples", `{"examples":[{"$ref":"#/a"}]}`, `{"examples":[{"$ref":"#/a"}]}`},
		{"properties with these names", `{"properties":{"const":{"$ref":"#/a"},"$ref":{"const":"#/a"},"properties":{"enum":["#/a"]}}}`,
			`{"properties":{"const":{"$ref":"#/x/a"},"$ref":{"const":"#/a"},"properties":{"enum":["#/a"]}}}`},
		{"a text", `{"description":"\"$ref\":\"#/a"}`, `{"description":"\"$ref\":\"#/a"}`},
		{"no object", `true`, `true`},
		{"empty", `{"a":{},"b":[]}`, `{"a":{},"b":[]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := moveRefs(json.RawMessage(tt.schema), "#/x")
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
		})
	}
	for _, bad := range []string{"", "{", `{"a":"`, `[1 2]`, `{"a":1}}`} {
		_, err := moveRefs(json.RawMessage(bad), "#/x")
		require.Error(t, err, bad)
	}
}

// TestToolSchemaKeepsData: what a tool takes is what its schema says, also
// where that looks like a reference.
func TestToolSchemaKeepsData(t *testing.T) {
	schema, err := toolSchema([]llama.Tool{{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"p":{"enum":[{"$ref":"#/a"}]}},"required":["p"]}`)}}, true, false)
	require.NoError(t, err)
	grammar, err := llama.SchemaToGrammar(schema)
	require.NoError(t, err)
	require.Contains(t, grammar, `{\"$ref\":\"#/a\"}`)
}

// TestToolNames: two tools of one name are two ways to call it; the caller sees
// the name.
func TestToolNames(t *testing.T) {
	tools := []llama.Tool{{Name: "f"}, {Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"const":1}}}`)}, {Name: `a"b\`}}
	schema, err := toolSchema(tools, false, true)
	require.NoError(t, err)
	grammar, err := llama.SchemaToGrammar(schema)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(schema), `"$ref":"#/$defs/tool1/$defs/b"`))
	require.NotEmpty(t, grammar)
}

func FuzzMoveRefs(f *testing.F) {
	for _, seed := range []string{`{"$ref":"#/a"}`, `[{"const":"\\\""},1]`, `"\u0000"`, ` { } `, `nul`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, schema string) {
		got, err := moveRefs(json.RawMessage(schema), "#/x")
		require.Equal(t, json.Valid([]byte(schema)), err == nil)
		if err == nil && !strings.Contains(schema, "ref") && !strings.Contains(schema, `\`) {
			require.JSONEq(t, schema, string(got))
		}
	})
}
