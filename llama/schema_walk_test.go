package llama_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// refChain is a schema of n definitions, each of which refers to the next; definitions lie in groups, so that none of the
// names is long.
func refChain(n int, format string) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/d/0","d":{`)
	for i := range n {
		fmt.Fprintf(&b, `"%d":`+format+`,`, i, fmt.Sprintf("#/d/%d", i+1))
	}
	fmt.Fprintf(&b, `"%d":{"type":"string"}}}`, n)
	return b.String()
}

// crashingSchemas would each end the process in llama.cpp, exhaust the memory or run for minutes.
func crashingSchemas() map[string]string {
	var properties []string
	for i := range 480 {
		properties = append(properties, fmt.Sprintf(`"p%d":{}`, i))
	}
	object := `{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`
	var signs []string // names that all give one rule's name
	for i := range 240 {
		signs = append(signs, `"`+strings.Repeat("!", i+1)+`":{}`)
	}
	doubling := func(format string, last string) string {
		var b strings.Builder
		for i := range 30 {
			fmt.Fprintf(&b, `"d%d":`+format+`,`, i, i+1)
		}
		return `{"allOf":[{"$ref":"#/$defs/d0"}],"$defs":{` + b.String() + `"d30":` + last + `}}`
	}
	return map[string]string{
		"loop below allOf":          `{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"$ref":"#/$defs/a"}}}`,
		"longer loop below allOf":   `{"allOf":[{"anyOf":[{"$ref":"#/a"}]}],"a":{"$ref":"#/b"},"b":{"$ref":"#/a"}}`,
		"loop through a property":   `{"$ref":"#/$defs/o","$defs":{"o":{"type":"object","properties":{"next":{"allOf":[{"$ref":"#/$defs/o"}]}}}}}`,
		"loop of alternatives":      `{"$ref":"#/a","a":{"anyOf":[{"$ref":"#/b"},{"$ref":"#/b"}]},"b":{"anyOf":[{"$ref":"#/a"},{"$ref":"#/a"}]}}`,
		"chain of references":       refChain(7000, `{"$ref":"%s"}`),
		"chain of arrays":           refChain(5500, `{"items":{"$ref":"%s"}}`),
		"chain of objects":          refChain(4500, `{"properties":{"a":{"$ref":"%s"}}}`),
		"chain of allOf":            refChain(5000, `{"allOf":[{"$ref":"%s"}]}`),
		"long name":                 `{"type":"object","properties":{"` + strings.Repeat("a", 200_000) + `":{}}}`,
		"long name of signs":        `{"type":"object","properties":{"` + strings.Repeat("é", 100_000) + `":{}}}`,
		"long open name":            `{"type":"object","additionalProperties":true,"properties":{"` + strings.Repeat("a", 80_000) + `":{}}}`,
		"long reference":            `{"$ref":"#/` + strings.Repeat("-", 100_000) + `","` + strings.Repeat("-", 100_000) + `":{}}`,
		"merged properties":         `{"allOf":[{"anyOf":[` + strings.Repeat(`{"$ref":"#/$defs/o"},`, 300) + `{}]}],"$defs":{"o":` + object + `}}`,
		"merged properties, few":    `{"allOf":[{"anyOf":[` + strings.Repeat(`{"$ref":"#/$defs/o"},`, 20) + `{}]}],"$defs":{"o":` + object + `}}`,
		"doubled by allOf":          doubling(`{"properties":{"a":{"allOf":[{"$ref":"#/$defs/d%[2]d"}]},"b":{"allOf":[{"$ref":"#/$defs/d%[2]d"}]}}}`, `{}`),
		"doubled by anyOf":          doubling(`{"anyOf":[{"$ref":"#/$defs/d%[2]d"},{"$ref":"#/$defs/d%[2]d"}]}`, `{"type":"string"}`),
		"doubled by lists of types": strings.Repeat(`{"type":["array","array"],"items":`, 45) + `{}` + strings.Repeat(`}`, 45),
		"nested allOf of anyOf":     strings.Repeat(`{"allOf":[{"anyOf":[`, 24) + `{}` + strings.Repeat(`]}]}`, 24),
		"names of signs":            `{"type":"object","properties":{` + strings.Join(signs, ",") + `}}`,
		"long pattern":              `{"type":"string","pattern":"^a` + strings.Repeat("*", 200_000) + `$"}`,
		"index with a tail":         `{"$ref":"#/a/0x","a":[{"$ref":"#/a/0x"}]}`,
	}
}

func init() {
	children["crashing schema"] = func() error {
		for name, schema := range crashingSchemas() {
			fmt.Println("try", name)
			_, err := llama.SchemaToGrammar([]byte(schema))
			fmt.Println("result", name, "=", fmt.Sprintf("%.300v", err))
		}
		fmt.Println("done")
		return nil
	}
}

func TestSchemasThatWouldCrash(t *testing.T) {
	out := runChild(t, "crashing schema", time.Minute)
	require.Contains(t, out, "\ndone")
	for name := range crashingSchemas() {
		if name != "nested allOf of anyOf" { // cheap once it is walked once
			require.NotContains(t, out, "result "+name+" = <nil>")
		}
	}
}

func TestToolSchemasThatWouldCrash(t *testing.T) {
	m := fixtureModel(t)
	ct, err := llama.NewChatTemplate(m, "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ct.Close()) })
	apply := func(tools ...llama.Tool) error {
		_, err := ct.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{{Role: "user", Content: "x"}}, Tools: tools})
		return err
	}
	for name, schema := range crashingSchemas() {
		if name != "nested allOf of anyOf" {
			require.ErrorIs(t, apply(llama.Tool{Name: "f", Parameters: json.RawMessage(schema)}), llama.ErrInvalidSchema, name)
		}
	}
	var properties []string
	for i := range 400 {
		properties = append(properties, fmt.Sprintf(`"p%d":{}`, i))
	}
	tool := llama.Tool{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`)}
	require.ErrorIs(t, apply(tool, tool, tool), llama.ErrInvalidSchema, "the limits are for all tools together")
}

// What real programs send must still pass.
func TestSchemasWithReferences(t *testing.T) {
	m := fixtureModel(t)
	for name, schema := range map[string]string{
		"linked list":      `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}}`,
		"tree":             `{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/$defs/t"}}},"$defs":{"t":{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/$defs/t"}}}}}}`,
		"merged":           `{"allOf":[{"$ref":"#/$defs/a"},{"type":"object","properties":{"y":{"type":"string"}}}],"$defs":{"a":{"type":"object","properties":{"x":{"type":"number"}}}}}`,
		"not ASCII":        `{"type":"object","properties":{"姓名":{"type":"string"},"年龄":{"type":"integer"}},"required":["姓名","年龄"]}`,
		"types":            `{"type":["string","null"]}`,
		"open":             `{"type":"object","additionalProperties":{"type":"integer"},"properties":{"a":{"type":"string"},"another_longer_name":{}}}`,
		"patterns":         `{"type":"object","properties":{"a":{"type":"string","pattern":"^[a-z]{2,5}\\.(x|yy)?\\$$"},"b":{"type":"string","pattern":"^(?:[0-9]+-)*z$"}}}`,
		"chain of objects": refChain(200, `{"type":"object","properties":{"a":{"$ref":"%s"}}}`),
		"chain of 300":     refChain(300, `{"items":{"$ref":"%s"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			g, err := llama.SchemaToGrammar([]byte(schema))
			require.NoError(t, err)
			require.NoError(t, llama.CheckGrammar(m, g))
		})
	}
}

// llama.cpp takes these as "any text" and says so on stderr only.
func TestPatternsThatAreNotEnforced(t *testing.T) {
	for _, pattern := range []string{`a`, `^a`, `^\d+$`, `^a(?=b)$`, `^a^b$`, `^[\d]$`, `^a]$`, `^a{x}$`, `^a}$`, `^a\$`, `^(a$`, `^a)$`, `^[a$`, `^a{1,2$`} {
		schema, err := json.Marshal(map[string]string{"type": "string", "pattern": pattern})
		require.NoError(t, err)
		_, err = llama.SchemaToGrammar(schema)
		require.ErrorIs(t, err, llama.ErrInvalidSchema, pattern)
	}
}

func TestSchemaErrorsReadWell(t *testing.T) {
	_, err := llama.SchemaToGrammar([]byte(`{"type":"string","maxLength":2000000000,"minLength":1000000000}`))
	require.ErrorIs(t, err, llama.ErrInvalidSchema)
	require.ErrorContains(t, err, "llama: the JSON schema gives a grammar that cannot be used: ")
}
