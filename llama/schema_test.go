package llama_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

var negInf = math.Inf(-1)

func TestSchemaToGrammar(t *testing.T) {
	m := fixtureModel(t)
	g, err := llama.SchemaToGrammar([]byte(`{"type":"object","properties":{"city":{"type":"string"},"n":{"type":"integer","minimum":0,"maximum":99}},"required":["city"]}`))
	require.NoError(t, err)
	require.Contains(t, g, "root ::=")
	require.NoError(t, llama.CheckGrammar(m, g))
}

// hostileSchemas are JSON schemas that must give an error or a grammar within the limits, never an abort or a hang.
func hostileSchemas() map[string]string {
	properties := func(n int, value string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`"p%d":%s`, i, value)
		}
		return strings.Join(all, ",")
	}
	refs := func(n int) string {
		defs := make([]string, n)
		for i := range defs {
			defs[i] = fmt.Sprintf(`"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i+1, i+1)
		}
		return fmt.Sprintf(`{"$defs":{%s,"d%d":{"type":"string"}},"$ref":"#/$defs/d0"}`, strings.Join(defs, ","), n)
	}
	return map[string]string{
		"not JSON":             `{`,
		"two values":           `{} {}`,
		"a number":             `5`,
		"a text":               `"x"`,
		"unknown type":         `{"type":"nonsense"}`,
		"nested 20k":           strings.Repeat(`{"items":`, 20_000) + `{}` + strings.Repeat(`}`, 20_000),
		"arrays nested 20k":    strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000),
		"too large":            `{"description":"` + strings.Repeat("a", 300<<10) + `"}`,
		"remote reference":     `{"$ref":"https://example.com/schema.json"}`,
		"reference to nothing": `{"$ref":"#/nowhere"}`,
		"reference to itself":  `{"$ref":"#"}`,
		"reference loop":       `{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}`,
		"40 binary choices":    refs(40),
		"chain of 2000":        strings.ReplaceAll(refs(2000), `"anyOf"`, `"oneOf"`),
		"5000 optional":        `{"type":"object","properties":{` + properties(5000, `{"type":"string"}`) + `}}`,
		"13k optional":         `{"type":"object","properties":{` + properties(13_000, `{}`) + `}}`,
		"pattern nested":       `{"type":"string","pattern":"^` + strings.Repeat("(", 20_000) + "a" + strings.Repeat(")", 20_000) + `$"}`,
		"pattern open":         `{"type":"string","pattern":"^(((a$"}`,
		"pattern repetition":   `{"type":"string","pattern":"^(((a{0,1000}){0,1000}){0,1000})$"}`,
		"pattern brackets":     `{"type":"string","pattern":"^[[[[[$"}`,
		"huge lengths":         `{"type":"string","minLength":1000000000,"maxLength":2000000000}`,
		"negative lengths":     `{"type":"string","minLength":-5,"maxLength":-1}`,
		"huge items":           `{"type":"array","items":{"type":"string"},"minItems":100000,"maxItems":1000000}`,
		"turned bounds":        `{"type":"integer","minimum":10,"maximum":-10}`,
		"huge bounds":          `{"type":"integer","minimum":-1e300,"maximum":1e300}`,
		"constants repeated":   `{"type":"array","minItems":2000,"maxItems":2000,"items":{"const":"` + strings.Repeat("a", 100<<10) + `"}}`,
		"wrong kinds":          `{"type":5,"properties":[],"required":"x","enum":{},"items":3,"anyOf":{}}`,
		"grammar in a name":    `{"type":"object","properties":{"a\" ::= x\nroot":{"type":"string"}},"required":["a\" ::= x\nroot"]}`,
		"prefix in a constant": `{"const":"%llguidance"}`,
	}
}

func init() {
	children["schemas"] = func() error {
		for name, schema := range hostileSchemas() {
			begin := time.Now()
			fmt.Println("try", name)
			g, err := llama.SchemaToGrammar([]byte(schema))
			fmt.Println("took", time.Since(begin), len(g), fmt.Sprintf("%.100v", err))
		}
		fmt.Println("done")
		return nil
	}
}

func TestHostileSchemas(t *testing.T) {
	out := runChild(t, "schemas", time.Minute)
	require.Contains(t, out, "\ndone")
	for _, name := range []string{"not JSON", "two values", "nested 20k", "arrays nested 20k", "too large"} {
		_, err := llama.SchemaToGrammar([]byte(hostileSchemas()[name]))
		require.ErrorIs(t, err, llama.ErrInvalidSchema, name)
	}
}
