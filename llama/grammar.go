package llama

import (
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// checkGrammarText refuses what would crash or abort the process.
func checkGrammarText(gbnf string) error {
	if strings.ContainsRune(gbnf, 0) {
		return errorf(ErrInvalidGrammar, "the grammar contains a NUL byte")
	}
	return nil
}

// CheckGrammar parses a GBNF grammar for a model's vocabulary; nil means that a sampler takes it.
//
// # Errors
//
//   - [ErrInvalidGrammar], [ErrNoVocab], [ErrClosed]
//
// C: llama_sampler_init_grammar
func CheckGrammar(m *Model, gbnf string) error {
	if m == nil {
		return ErrClosed
	}
	if err := checkGrammarText(gbnf); err != nil {
		return err
	}
	if err := m.vocab.acquire(); err != nil {
		return err
	}
	defer m.release()
	return fromNative(native.CheckGrammar(m.native, gbnf), ErrInvalidGrammar, "grammar")
}

// SchemaToGrammar translates a JSON schema to a GBNF grammar.
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
		return "", errorf(ErrInvalidSchema, "the JSON schema's grammar: %v", err)
	}
	return g, nil
}
