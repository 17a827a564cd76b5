package chatoracle

import (
	"regexp"
	"slices"
)

// special is what control tokens look like in the templates of all families.
var special = regexp.MustCompile(`<[|｜][^<>\n'"{} ]{1,40}[|｜]>|</?[a-zA-Z_][a-zA-Z0-9_:-]{0,30}>|\[/?[A-Z][A-Z_]{2,30}\]|[\[\]][~e][\]\[b!~]{1,3}[a-z]{0,6}\[?|<[^<>\n'"{} =]{0,12}[｜▁][^<>\n'"{} ]{1,40}>|<\|[a-z_]{1,20}>|<[a-z_]{1,20}\|>`)

// Specials gives the texts in a template that are control tokens of its model, or could be: sorted, each once.
func Specials(source string) []string {
	found := special.FindAllString(source, -1)
	slices.Sort(found)
	return slices.Compact(found)
}
