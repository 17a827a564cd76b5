package llama

import "strings"

// checkGrammarText refuses what would crash or abort the process.
func checkGrammarText(gbnf string) error {
	if strings.ContainsRune(gbnf, 0) {
		return errorf(ErrInvalidGrammar, "the grammar contains a NUL byte")
	}
	return nil
}
