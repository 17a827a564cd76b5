package llama

import (
	"encoding/json"
	"fmt"
)

// maxNesting is the deepest nesting of brackets in grammars, templates and JSON, and of blocks in templates: llama.cpp recurses once per level.
const maxNesting = 100

// checkJSON refuses what is not one JSON value, or nested too deeply.
func checkJSON(raw []byte) error {
	_, err := scanJSON(raw)
	return err
}

// scanJSON also gives the sum of the cubes of the numbers of members of all objects, saturated.
func scanJSON(raw []byte) (cubes int, err error) {
	var sizes [maxNesting]int // of the open objects and arrays, by level
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
			if depth == maxNesting {
				return 0, fmt.Errorf("nested deeper than %d levels", maxNesting)
			}
			sizes[depth] = 1
			depth++
		case ',':
			if depth > 0 {
				sizes[depth-1]++
			}
		case ']', '}':
			if depth > 0 {
				depth--
				if n := min(sizes[depth], 1<<10); raw[i] == '}' {
					cubes = saturate(cubes + n*n*n)
				}
			}
		}
	}
	if !json.Valid(raw) {
		return 0, fmt.Errorf("not valid JSON")
	}
	return cubes, nil
}
