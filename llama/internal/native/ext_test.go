package native

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What shim_fit.cpp repeats of a header that is not installed is what the header says.
func TestExtHeader(t *testing.T) {
	const header = "../../../third_party/llama.cpp/source/src/llama-ext.h"
	ext, err := os.ReadFile(header)
	if os.IsNotExist(err) {
		t.Skip("the sources of llama.cpp are not in the cache: `go run ./cmd/llamacpp fetch` brings them")
	}
	require.NoError(t, err)
	shim, err := os.ReadFile("shim_fit.cpp")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(shim), "TestExtHeader compares.\n")
	repeated, _, ok := strings.Cut(rest, "\nnamespace {")
	require.True(t, ok)

	comment, space := regexp.MustCompile(`//.*`), regexp.MustCompile(`\s+`)
	flat := func(s string) string { return space.ReplaceAllString(comment.ReplaceAllString(s, ""), "") }
	want := flat(string(ext))
	fields := flat(repeated[strings.Index(repeated, "{")+1 : strings.Index(repeated, "}")])
	require.Contains(t, want, "structllama_memory_breakdown_data{"+fields+"size_ttotal()const{", "the struct's fields, and no more but a function")
	_, declarations, _ := strings.Cut(repeated, "};")
	n := 0
	for d := range strings.SplitSeq(declarations, ";") {
		if d = flat(d); d != "" {
			require.Contains(t, want, d+";")
			n++
		}
	}
	require.Equal(t, 4, n)
}
