package llama

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// RegexToGrammar translates a regular expression to a GBNF grammar of the texts that match it as a whole.
//
// It may have: characters, ., classes, \d \w \s and their opposites (ASCII), \t \n \r \f \v \0 \xHH \uHHHH \u{H…} \cX and
// escaped punctuation, groups (also (?:…) and named ones), |, and the repetitions * + ? {m} {m,} {m,n} up to 1000, lazy or
// not, which makes no difference here; ^ and $ at the ends. The dot matches anything but a line feed. This is what JavaScript
// and Go have in common, and what Go's package regexp matches with ^(?:…)$. Look-around, back references, \b, \p{…} and flags
// such as (?i) cannot be expressed and are refused.
//
// # Errors
//
//   - [*PlaceError], which is [ErrInvalidRegex], with the offset of what cannot be used, or of nothing where all of it is too
//     large or too ambiguous: 64 KiB, 100 nested groups, and the limits of [CheckGrammar]
func RegexToGrammar(pattern string) (string, error) {
	fault := func(place, format string, args ...any) error {
		return &PlaceError{What: "regular expression", Place: place, Text: fmt.Sprintf(format, args...)}
	}
	if len(pattern) > maxRegexBytes {
		return "", fault("", "it has %d bytes, at most %d are allowed", len(pattern), maxRegexBytes)
	}
	if !utf8.ValidString(pattern) {
		return "", fault("", "it is not UTF-8")
	}
	p := &regexParser{src: pattern}
	tree, err := p.parse()
	if err != nil {
		return "", fault(fmt.Sprint(p.fault), "%v", err)
	}
	var b strings.Builder
	b.WriteString("root ::= ")
	tree.write(&b)
	b.WriteByte('\n')
	if err := checkGrammarText(b.String()); err != nil {
		return "", fault("", "%s", strings.TrimPrefix(err.Error(), "llama: "))
	}
	return b.String(), nil
}

const (
	maxChoices     = 10_000
	maxRegexBytes  = 64 << 10
	maxRegexRepeat = 1000 // Go's
)

// ChoicesToGrammar makes a GBNF grammar of the texts that are one of choices.
//
// # Errors
//
//   - [*PlaceError], which is [ErrInvalidGrammar]: no choices, more than 10000, one that is empty or not UTF-8, or more than
//     the limits of [CheckGrammar]
func ChoicesToGrammar(choices []string) (string, error) {
	fault := func(format string, args ...any) error {
		return &PlaceError{What: "grammar", Text: fmt.Sprintf(format, args...)}
	}
	if len(choices) == 0 || len(choices) > maxChoices {
		return "", fault("%d choices: want 1 to %d", len(choices), maxChoices)
	}
	all := regexNode{kind: regexAlt}
	for i, c := range choices {
		if c == "" || !utf8.ValidString(c) || strings.ContainsRune(c, 0) {
			return "", fault("choice %d is empty, not UTF-8 or has a NUL", i)
		}
		all.subs = append(all.subs, &regexNode{kind: regexText, text: c})
	}
	var b strings.Builder
	b.WriteString("root ::= ")
	all.write(&b)
	b.WriteByte('\n')
	if err := checkGrammarText(b.String()); err != nil {
		return "", fault("%s", strings.TrimPrefix(err.Error(), "llama: "))
	}
	return b.String(), nil
}
