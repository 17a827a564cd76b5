package engine

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// moveRefs makes the references of a schema that becomes part of a larger one
// point to its new place. It keeps the order of the properties, and leaves data
// in the schema alone, however much it looks like a reference.
func moveRefs(schema json.RawMessage, to string) (json.RawMessage, error) {
	var in bytes.Buffer
	if err := json.Compact(&in, schema); err != nil {
		return nil, err
	}
	m := refMover{in: in.Bytes(), to: to}
	m.value(schemaPart)
	return m.out.Bytes(), nil
}

// schemaPart and the others are what a value in a schema can be.
type schemaKind int

const (
	schemaPart schemaKind = iota // a schema, or a list of them
	schemaMap                    // an object whose members are schemas
	schemaRef                    // the value of "$ref"
	schemaData                   // anything else
)

// member is what the member of such an object is.
func (k schemaKind) member(key string) schemaKind {
	switch k {
	case schemaMap:
		return schemaPart
	case schemaPart:
		switch key {
		case "$ref":
			return schemaRef
		case "properties", "patternProperties", "dependentSchemas", "$defs", "definitions":
			return schemaMap
		case "const", "enum", "default", "example", "examples":
			return schemaData
		}
		return schemaPart
	}
	return schemaData
}

// refMover copies compact, valid JSON.
type refMover struct {
	in  []byte // what is left
	out bytes.Buffer
	to  string
}

func (m *refMover) value(k schemaKind) {
	switch m.in[0] {
	case '{':
		for m.copy(1); m.in[0] != '}'; {
			key := m.text()
			m.out.WriteString(key)
			m.copy(1) // the colon
			name, _ := strconv.Unquote(key)
			m.value(k.member(name))
			m.comma()
		}
		m.copy(1)
	case '[':
		for m.copy(1); m.in[0] != ']'; {
			m.value(k)
			m.comma()
		}
		m.copy(1)
	case '"':
		text := m.text()
		if rest, ok := strings.CutPrefix(text, `"#`); ok && k == schemaRef && (rest[0] == '/' || rest[0] == '"') {
			text = `"` + m.to + rest
		}
		m.out.WriteString(text)
	default: // a number, true, false, null
		n := bytes.IndexAny(m.in, ",]}")
		if n < 0 {
			n = len(m.in)
		}
		m.copy(n)
	}
}

func (m *refMover) copy(n int) {
	m.out.Write(m.in[:n])
	m.in = m.in[n:]
}

func (m *refMover) comma() {
	if m.in[0] == ',' {
		m.copy(1)
	}
}

// text takes a string, with its quotes and escapes.
func (m *refMover) text() string {
	n := 1
	for ; m.in[n] != '"'; n++ {
		if m.in[n] == '\\' {
			n++
		}
	}
	s := string(m.in[:n+1])
	m.in = m.in[n+1:]
	return s
}
