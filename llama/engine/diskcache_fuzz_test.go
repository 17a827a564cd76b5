package engine

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// FuzzStateFile: no file of a cache's directory does harm, and what is accepted is what was written.
func FuzzStateFile(f *testing.F) {
	h := diskHead{start: 1, tokens: []llama.Token{1, 2, 3}}
	head := h.bytes()
	sum := sha256.Sum256(append(append([]byte(nil), head...), "data"...))
	good := append(append(append([]byte(diskMagic), sum[:]...), head...), "data"...)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:diskFixed])
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := os.OpenRoot(t.TempDir())
		require.NoError(t, err)
		defer root.Close()
		name := "x" + diskSuffix
		require.NoError(t, root.WriteFile(name, b, 0o600))
		d := &diskCache{root: root}
		whole, data, err := parseState(b)
		file, headErr := d.readHead(name)
		if err == nil {
			require.NoError(t, headErr)
			require.Equal(t, whole, file.head)
			require.Equal(t, b[len(b)-len(data):], data)
			require.Len(t, b, diskFixed+4*len(whole.tokens)+len(data))
		}
		_, err = os.Stat(filepath.Join(root.Name(), name))
		require.NoError(t, err)
	})
}
