package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestQuotedFlags(t *testing.T) {
	for _, test := range []struct {
		text  string
		flags []string
	}{
		{"", nil},
		{"  -O2  -g ", []string{"-O2", "-g"}},
		{`"-I/a b" '-I/c d' -lm`, []string{"-I/a b", "-I/c d", "-lm"}},
		{`"-I/unfinished`, []string{"-I/unfinished"}},
	} {
		assert.Equal(t, test.flags, splitQuoted(test.text), test.text)
		assert.Equal(t, test.flags, splitQuoted(quoteAll(test.flags)), test.text)
	}
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "a b", "it's", `"x" $HOME`} {
		out, err := child{args: []string{"sh", "-c", "printf %s " + shellQuote(s)}}.output(t.Context())
		assert.NoError(t, err)
		assert.Equal(t, s, out)
	}
}

func TestModuleOf(t *testing.T) {
	for text, want := range map[string]string{
		"module a/b\n\ngo 1.26\n":       "a/b",
		"// x\nmodule \"a/b\"\n":        "a/b",
		"go 1.26\n":                     "",
		"module " + modulePath + "\r\n": modulePath,
	} {
		assert.Equal(t, want, moduleOf([]byte(text)), text)
	}
}
