package engine

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

type inner struct {
	Names []string           `json:"names"`
	Score map[string]float64 `json:"score"`
	Next  *inner2            `json:"next"`
}

type inner2 struct {
	When time.Time       `json:"when"`
	Pair [2]int          `json:"pair"`
	Any  any             `json:"any,omitempty"`
	Json json.RawMessage `json:"json,omitempty"`
	Raw  bool
}

// TestSchemasOfGoTypesBecomeGrammars: what GenerateInto makes of a type is
// something that llama.cpp can enforce.
func TestSchemasOfGoTypesBecomeGrammars(t *testing.T) {
	for name, schema := range map[string]func() (*jsonschema.Schema, error){
		"string": func() (*jsonschema.Schema, error) { return schemaOf[string]() },
		"list":   func() (*jsonschema.Schema, error) { return schemaOf[[]int]() },
		"struct": func() (*jsonschema.Schema, error) { return schemaOf[inner]() },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := schema()
			require.NoError(t, err)
			data, err := json.Marshal(s)
			require.NoError(t, err)
			grammar, err := llama.SchemaToGrammar(data)
			require.NoError(t, err, "%s", data)
			require.Contains(t, grammar, "root ::=")
		})
	}
}

func TestDecodeInto(t *testing.T) {
	schema, err := schemaOf[inner2]()
	require.NoError(t, err)
	resolved, err := schema.Resolve(nil)
	require.NoError(t, err)
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"whole", `{"when":"2026-01-02T03:04:05Z","pair":[1,2],"Raw":true}`, true},
		{"cut", `{"when":"2026-01-02T03:04`, false},
		{"property missing", `{"when":"2026-01-02T03:04:05Z","Raw":true}`, false},
		{"property unknown", `{"when":"2026-01-02T03:04:05Z","pair":[1,2],"Raw":true,"x":1}`, false},
		{"wrong type", `{"when":"2026-01-02T03:04:05Z","pair":[1,"2"],"Raw":true}`, false},
		{"not the time's form", `{"when":"yesterday","pair":[1,2],"Raw":true}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v inner2
			err := decodeInto(tt.text, resolved, &v)
			if !tt.ok {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, inner2{When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Pair: [2]int{1, 2}, Raw: true}, v)
		})
	}
}
