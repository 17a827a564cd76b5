package llama

import "strconv"

// merge adds the cost of an allOf: the properties of all its parts, and of the alternatives within them, become one object.
func (w *schemaWalk) merge(total *schemaCost, parts []any, path string) error {
	merged := 0
	var part func(value any) error
	part = func(value any) error {
		s, _ := value.(schemaObject)
		if ref, ok := s["$ref"]; ok {
			r, err := w.ref(ref)
			if err != nil {
				return err
			}
			if _, err := w.refChoices(r); err != nil { // no cycle of references alone
				return err
			}
			c, err := w.refCost(r)
			if err != nil {
				return err
			}
			total.add(c, 1)
			total.text = saturate(total.text + c.visits*len(path))
			s = r.target
			if _, chained := s["$ref"]; chained {
				return part(s)
			}
		}
		properties, _ := s["properties"].(schemaObject)
		merged += len(properties)
		return nil
	}
	for i, p := range parts {
		s, _ := p.(schemaObject)
		at := strconv.Itoa(i)
		if err := part(s); err != nil {
			return under(err, at)
		}
		for _, key := range []string{"oneOf", "anyOf"} {
			alternatives, _ := s[key].([]any)
			for _, alternative := range alternatives {
				if err := part(alternative); err != nil {
					return under(err, at, key)
				}
			}
		}
		if err := w.child(total, s, path); err != nil {
			return under(err, at)
		}
	}
	total.cubes = saturate(total.cubes + cube(merged))
	return nil
}

func cube(n int) int {
	n = min(n, 600)
	return n * n * n
}

// ruleName is how llama.cpp names the rule of a path.
func ruleName(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		switch c := path[i]; {
		case isGBNFWord(c):
			out = append(out, c)
		case i == 0 || isGBNFWord(path[i-1]):
			out = append(out, '-')
		}
	}
	return string(out)
}
