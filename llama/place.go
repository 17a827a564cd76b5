package llama

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PlaceError is a fault in a grammar, a regular expression or a JSON schema, with its place.
type PlaceError struct {
	// What is at fault: "grammar", "regular expression" or "JSON schema". The error is ErrInvalidGrammar, ErrInvalidRegex or
	// ErrInvalidSchema.
	What string
	// Place is "LINE:COLUMN" in a grammar (from 1, columns in bytes), the offset in bytes in a regular expression or in a
	// schema that is no JSON, and else a JSON pointer into the schema, such as "/properties/name"; "" is all of it.
	Place string
	Text  string
}

func (e *PlaceError) Error() string {
	s := "llama: invalid " + e.What
	if e.Place != "" {
		s += " at " + e.Place
	}
	return s + ": " + e.Text
}

func (e *PlaceError) Unwrap() error {
	switch e.What {
	case "regular expression":
		return ErrInvalidRegex
	case "JSON schema":
		return ErrInvalidSchema
	}
	return ErrInvalidGrammar
}

// schemaFault is a fault below a place of a schema that is being walked.
type schemaFault struct {
	pointer string
	err     error
	whole   bool // pointer begins at the root
}

func (e *schemaFault) Error() string { return e.err.Error() }

// under puts a key in front of the place of an error.
func under(err error, keys ...string) error {
	if err == nil {
		return nil
	}
	pointer := ""
	for _, k := range keys {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
	}
	return placed(err, pointer, false)
}

// placed puts a pointer in front of the place of an error, unless that begins at the root already.
func placed(err error, pointer string, whole bool) error {
	f := (*schemaFault)(nil)
	switch {
	case !errors.As(err, &f):
		f = &schemaFault{err: err}
	case f.whole:
		return f
	}
	return &schemaFault{pointer: pointer + f.pointer, err: f.err, whole: whole}
}

// checkTypes refuses a type that JSON schema does not have: llama.cpp would name no place.
func checkTypes(kind any) error {
	switch k := kind.(type) {
	case nil:
	case string:
		switch k {
		case "null", "boolean", "integer", "number", "string", "array", "object":
		default:
			return fmt.Errorf("type %.40q: want null, boolean, integer, number, string, array or object", k)
		}
	case []any:
		for i, one := range k {
			if _, ok := one.(string); !ok {
				return under(fmt.Errorf("a type is a string"), strconv.Itoa(i))
			}
			if err := checkTypes(one); err != nil {
				return under(err, strconv.Itoa(i))
			}
		}
	default:
		return fmt.Errorf("a type is a string or a list of them")
	}
	return nil
}

func schemaError(err error) error {
	e := &PlaceError{What: "JSON schema", Text: err.Error()}
	if f := (*schemaFault)(nil); errors.As(err, &f) {
		e.Place = f.pointer
	}
	return e
}
