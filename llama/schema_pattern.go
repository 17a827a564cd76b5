package llama

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	// What llama.cpp takes as {m,n}.
	patternTimes = regexp.MustCompile(`^\{(\d{1,9}|\d{0,9},\d{0,9})\}`)
	// Escapes of GBNF, which llama.cpp takes everywhere, and those of regular expressions, outside of classes only.
	patternEscape  = regexp.MustCompile(`^\\([trn\\"\[\]-]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})`)
	patternLiteral = regexp.MustCompile(`^\\[\^$.\[\]()|{}*+?]`)
)

func mayBeString(kind any) bool {
	switch k := kind.(type) {
	case nil:
		return true
	case string:
		return k == "string"
	case []any:
		for _, one := range k {
			if one == "string" {
				return true
			}
		}
	}
	return false
}

// checkPattern refuses patterns that are too long for llama.cpp's translation, and, where strict, those that it would take as
// "any text", with a note on stderr.
func checkPattern(pattern string, strict bool) error {
	if len(pattern) > maxSchemaName {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(pattern), maxSchemaName)
	}
	if !strict || pattern == "" {
		return nil
	}
	if len(pattern) < 2 || pattern[0] != '^' || pattern[len(pattern)-1] != '$' {
		return fmt.Errorf("it must begin with ^ and end with $ to be enforced")
	}
	inner := pattern[1 : len(pattern)-1]
	depth, class := 0, false
	for i := 0; i < len(inner); {
		rest := inner[i:]
		n := 1
		switch c := rest[0]; {
		case c == '\\':
			if n = len(patternEscape.FindString(rest)); n == 0 && !class {
				n = len(patternLiteral.FindString(rest))
			}
			if n == 0 {
				return fmt.Errorf("the escape %q cannot be enforced: write a class such as [0-9]", rest[:min(2, len(rest))])
			}
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			if strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(?:") {
				return fmt.Errorf("groups that begin with (? cannot be enforced")
			}
			if depth++; depth > maxNesting {
				return fmt.Errorf("groups are nested deeper than %d levels", maxNesting)
			}
		case c == ')':
			depth--
		case c == '{':
			if n = len(patternTimes.FindString(rest)); n == 0 {
				return fmt.Errorf("%.10q is no number of repetitions", rest)
			}
		case c == '^' || c == '$' || c == ']' || c == '}':
			return fmt.Errorf("%q in its middle cannot be enforced", c)
		}
		i += n
	}
	if class || depth != 0 {
		return fmt.Errorf("its brackets do not match")
	}
	return nil
}
