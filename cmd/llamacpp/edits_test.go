package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

func TestEdits(t *testing.T) {
	w := newWorld(t)
	w.clone("plain")
	w.must("install")
	require.Regexp(t, "^1 1 ", program(t))

	w.pin.edits = []llamacpp.Edit{{
		File: "common/common.cpp", Library: "libllama-common.a",
		Inserts: []llamacpp.Insert{{Before: "std::string common_answer()", Text: "#define llama_answer() 7\n"}},
	}}
	w.clone("edited")
	w.must("install")
	require.Equal(t, sources+1, w.compiled(""), "only what is edited is compiled again")
	require.Regexp(t, "^7 1 ", program(t))

	w.must("peers", filepath.Join(w.dir, "peers"))
	out, err := child{args: []string{filepath.Join(w.dir, "peers", llamacpp.Peers[0])}}.output(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", out, "peers are what the release is")

	for _, before := range []string{"no such text", "\n"} {
		w.pin.edits[0].Inserts[0].Before = before
		code, _, stderr := w.llamacpp("build")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "does not fit")
		assert.Contains(t, stderr, "edits.go")
	}
	assertNoLeftovers(t, w)
}
