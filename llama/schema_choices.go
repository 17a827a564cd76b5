package llama

import "fmt"

// refChoices counts the subschemas that one can be, through $ref, anyOf, oneOf and allOf: llama.cpp looks at each of them to
// find out its types, at shared ones again and again.
func (w *schemaWalk) refChoices(r *schemaRef) (n int, err error) {
	switch r.chosen {
	case 1:
		return 0, fmt.Errorf("%q refers to itself with nothing in between", r.name)
	case 0:
		r.chosen = 1
		if r.choices, err = w.choices(r.target); err != nil {
			return 0, err
		}
		r.chosen = 2
	}
	return r.choices, nil
}

func (w *schemaWalk) choices(s schemaObject) (int, error) {
	if ref, ok := s["$ref"]; ok {
		r, err := w.ref(ref)
		if err != nil {
			return 0, err
		}
		n, err := w.refChoices(r)
		return saturate(n + 1), err
	}
	total := 1
	for _, key := range []string{"oneOf", "anyOf", "allOf"} {
		list, _ := s[key].([]any)
		for _, item := range list {
			if sub, ok := item.(schemaObject); ok {
				n, err := w.choices(sub)
				if err != nil {
					return 0, err
				}
				total = saturate(total + n)
			}
		}
	}
	if total > maxSchemaChoices {
		return 0, fmt.Errorf("a subschema has more than %d alternatives", maxSchemaChoices)
	}
	return total, nil
}

// schemaDepth is the nesting of subschemas within one, references not followed. It also sees what is none, such as a constant:
// too much does no harm.
func schemaDepth(value any) int {
	deepest := 0
	switch v := value.(type) {
	case schemaObject:
		for _, item := range v {
			deepest = max(deepest, schemaDepth(item))
		}
		return deepest + 1
	case []any:
		for _, item := range v {
			deepest = max(deepest, schemaDepth(item))
		}
	}
	return deepest
}
