package llama

import (
	"encoding/json"
	"fmt"
)

// maxNesting is the deepest nesting of brackets in grammars, templates and JSON, and of blocks in templates: llama.cpp recurses once per level.
const maxNesting = 100

// checkJSON refuses what is not one JSON value, or nested too deeply.
func checkJSON(raw []byte) error {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if depth++; depth > maxNesting {
				return fmt.Errorf("nested deeper than %d levels", maxNesting)
			}
		case ']', '}':
			depth--
		}
	}
	if !json.Valid(raw) {
		return fmt.Errorf("not valid JSON")
	}
	return nil
}
