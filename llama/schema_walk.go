package llama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What llama.cpp's translation of a JSON schema would cost, found by walking it the same way: it recurses once per subschema
// and per $ref, follows references below allOf without looking for cycles, writes merged properties out again for each
// place, and walks property names and rule names character by character.

const (
	maxSchemaVisits = 5000 // subschemas after allOf and lists of types are written out
	maxSchemaText   = 4 << 20
	maxSchemaLevels = 1000 // nested subschemas, with each reference's target once
	maxSchemaName   = 1000 // bytes of a property's name, a reference or a pattern
	maxSchemaPath   = 4000 // bytes of all property names down to one subschema
	// maxSchemaOpenName is the longest name, in characters, in an object with additional properties: their rule excludes
	// the name, with a pair of brackets for each character.
	maxSchemaOpenName = maxNesting - 10
	maxSchemaChoices  = 10_000 // alternatives of one subschema through $ref, anyOf, oneOf and allOf
	patternVisits     = 10     // each pattern copies all rules so far
	maxSchemaClashes  = 20_000 // pairs of properties whose rules would have one name: 200 names without a letter or digit of ASCII
)

// schemaCost adds up what several schemas of one request cost.
type schemaCost struct{ visits, cubes, text int }

func (c *schemaCost) add(o schemaCost, times int) {
	c.visits = saturate(c.visits + o.visits*times)
	c.cubes = saturate(c.cubes + o.cubes*times)
	c.text = saturate(c.text + o.text*times)
}

func (c *schemaCost) check() error {
	switch {
	case c.cubes > maxSchemaCubes:
		return fmt.Errorf("its objects have too many properties: at most 500 in one, fewer in each of several")
	case c.visits > maxSchemaVisits, c.text > maxSchemaText:
		return fmt.Errorf("it is too large: at most %d subschemas and %d bytes of names and constants, allOf and lists of types written out",
			maxSchemaVisits, maxSchemaText)
	}
	return nil
}

type schemaObject = map[string]any

// schemaRef is the target of a $ref.
type schemaRef struct {
	name    string
	target  schemaObject
	cost    schemaCost
	choices int
	state   int8 // of cost: 0 new, 1 in progress, 2 done
	chosen  int8 // of choices
}

// fault puts the place of the target in front of that of an error below it.
func (r *schemaRef) fault(err error) error { return placed(err, strings.TrimPrefix(r.name, "#"), true) }

type schemaWalk struct {
	root   any
	refs   map[string]*schemaRef
	queue  []*schemaRef
	levels int
	strict bool // refuse patterns that llama.cpp does not enforce

	rules   map[string]int // properties by the name of their rule
	clashes int
}

// walkSchema gives the cost of a valid JSON value that is nested no deeper than maxNesting.
func walkSchema(schema []byte, strict bool) (total schemaCost, err error) {
	w := &schemaWalk{refs: map[string]*schemaRef{}, rules: map[string]int{}, strict: strict}
	d := json.NewDecoder(bytes.NewReader(schema))
	d.UseNumber()
	if err := d.Decode(&w.root); err != nil {
		return total, err
	}
	root, ok := w.root.(schemaObject)
	if !ok {
		return total, fmt.Errorf("it is not an object")
	}
	first := &schemaRef{name: "#", target: root}
	w.queue = append(w.queue, first)
	for len(w.queue) > 0 {
		r := w.queue[0]
		w.queue = w.queue[1:]
		if w.levels += schemaDepth(r.target); w.levels > maxSchemaLevels {
			return total, fmt.Errorf("its references and subschemas can nest over more than %d levels", maxSchemaLevels)
		}
		c, err := w.refCost(r)
		if err != nil {
			return total, err
		}
		if _, err := w.refChoices(r); err != nil {
			return total, r.fault(err)
		}
		total.add(c, 1)
		if err := total.check(); err != nil {
			return total, err
		}
	}
	return total, nil
}

// ref looks a reference up as llama.cpp does; new ones are queued.
func (w *schemaWalk) ref(value any) (*schemaRef, error) {
	name, ok := value.(string)
	path, local := strings.CutPrefix(name, "#/")
	if !ok || !local || len(name) > maxSchemaName {
		return nil, fmt.Errorf("$ref %.60q: want #/ and a path within the schema, at most %d bytes", fmt.Sprint(value), maxSchemaName)
	}
	if r := w.refs[name]; r != nil {
		return r, nil
	}
	at := w.root
	for _, key := range strings.Split(path, "/") {
		var next any
		switch v := at.(type) {
		case schemaObject:
			next = v[key]
		case []any:
			if n, err := strconv.ParseUint(key, 10, 31); err == nil && int(n) < len(v) {
				next = v[n]
			}
		}
		if at = next; key == "" || at == nil {
			return nil, fmt.Errorf("$ref %.60q leads nowhere", name)
		}
	}
	target, ok := at.(schemaObject)
	if !ok {
		return nil, fmt.Errorf("$ref %.60q leads to no schema", name)
	}
	r := &schemaRef{name: name, target: target}
	w.refs[name] = r
	w.queue = append(w.queue, r)
	return r, nil
}

func (w *schemaWalk) refCost(r *schemaRef) (c schemaCost, err error) {
	switch r.state {
	case 1:
		return c, fmt.Errorf("%q contains itself through allOf, which cannot be written out: use $ref alone", r.name)
	case 0:
		r.state = 1
		if r.cost, err = w.cost(r.target, r.name); err != nil {
			return c, r.fault(err)
		}
		r.state = 2
	}
	return r.cost, nil
}

// cost is that of writing one subschema out; path is made of the names down to it.
func (w *schemaWalk) cost(s schemaObject, path string) (schemaCost, error) {
	total := schemaCost{visits: 1, text: len(path)}
	if len(path) > maxSchemaPath {
		return total, fmt.Errorf("property names on one path have more than %d bytes", maxSchemaPath)
	}
	if ref, ok := s["$ref"]; ok {
		_, err := w.ref(ref)
		return total, under(err, "$ref")
	}
	if w.strict {
		if err := checkTypes(s["type"]); err != nil {
			return total, under(err, "type")
		}
	}
	// Within arrays of types each type gets its own copy of the subschema.
	times := 1
	if types, ok := s["type"].([]any); ok {
		times = max(len(types), 1)
	}
	var own schemaCost
	for _, key := range []string{"const", "enum"} {
		if v, ok := s[key]; ok {
			raw, err := json.Marshal(v)
			if err != nil {
				return total, err
			}
			own.text += len(raw)
		}
	}
	if pattern, ok := s["pattern"].(string); ok && mayBeString(s["type"]) {
		if err := checkPattern(pattern, w.strict); err != nil {
			return total, under(fmt.Errorf("pattern %.60q: %w", pattern, err), "pattern")
		}
		own.visits += patternVisits
	}
	properties, _ := s["properties"].(schemaObject)
	open := s["additionalProperties"] != nil && s["additionalProperties"] != false
	for name, value := range properties {
		if len(name) > maxSchemaName || open && utf8.RuneCountInString(name) > maxSchemaOpenName {
			return total, under(fmt.Errorf("property %.40q… has a name of %d bytes: at most %d are allowed, %d with additionalProperties",
				name, len(name), maxSchemaName, maxSchemaOpenName), "properties")
		}
		rule := path + "-" + name
		key := ruleName(rule)
		w.clashes += w.rules[key]
		w.rules[key]++
		if w.clashes > maxSchemaClashes {
			return total, fmt.Errorf("too many property names differ in other than letters, digits and hyphens of ASCII only")
		}
		if err := w.child(&own, value, rule); err != nil {
			return total, under(err, "properties", name)
		}
	}
	own.cubes = saturate(own.cubes + cube(len(properties)))
	for _, key := range []string{"oneOf", "anyOf", "items", "prefixItems"} {
		if err := w.child(&own, s[key], path+"-"+key); err != nil {
			return total, under(err, key)
		}
	}
	if err := w.child(&own, s["additionalProperties"], path+"-additional-value"); err != nil {
		return total, under(err, "additionalProperties")
	}
	if parts, ok := s["allOf"].([]any); ok {
		if err := w.merge(&own, parts, path); err != nil {
			return total, under(err, "allOf")
		}
	}
	total.add(own, times)
	return total, nil
}

// child adds the cost of a subschema or of a list of them; anything else is left for llama.cpp to refuse.
func (w *schemaWalk) child(total *schemaCost, value any, path string) error {
	switch v := value.(type) {
	case schemaObject:
		c, err := w.cost(v, path)
		if err != nil {
			return err
		}
		total.add(c, 1)
	case []any:
		for i, item := range v {
			if s, ok := item.(schemaObject); ok {
				if err := w.child(total, s, path+"-"+strconv.Itoa(i)); err != nil {
					return under(err, strconv.Itoa(i))
				}
			}
		}
	}
	return nil
}
