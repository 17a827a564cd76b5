package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestDiskCache: what one engine computed the next one does not, whatever the memory is; files that are not what they should
// be are not believed, and go.
func TestDiskCache(t *testing.T) {
	for _, mem := range memories {
		t.Run(mem.name, func(t *testing.T) {
			m := loadFixture(t, mem.file)
			dir := filepath.Join(t.TempDir(), "cache")
			prompt := letters(100, 1)
			ask := func(p engine.Params, prompt []llama.Token) answer {
				t.Helper()
				p.NThreads = 1
				e, err := engine.New(m, p)
				require.NoError(t, err)
				a := generate(t, e, engine.Request{Tokens: prompt, MaxTokens: 8, IgnoreEOS: true, Sampling: greedy(), CacheScope: "s"})
				require.NoError(t, e.Close())
				return a
			}
			on := engine.Params{Cache: engine.CacheParams{Dir: dir}}
			first := ask(on, prompt)
			require.Zero(t, first.result.Usage.Cached)
			states := files(t, dir)
			require.Len(t, states, 1)
			info, err := os.Stat(states[0])
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())

			long := slices.Concat(prompt, first.tokens, letters(20, 2))
			want := ask(engine.Params{}, long).tokens
			again := ask(on, long)
			require.Equal(t, len(prompt)+7, again.result.Usage.Cached)
			require.Equal(t, want, again.tokens)
			require.Len(t, files(t, dir), 2, "only what is new is written")
			n, size, err := engine.CacheUsage(dir)
			require.NoError(t, err)
			require.Equal(t, 2, n)
			require.Positive(t, size)

			other := on
			other.FlashAttn = llama.FlashAttnOff
			require.Zero(t, ask(other, long).result.Usage.Cached, "made with other parameters")
			require.NoError(t, engine.ClearCache(dir))
			require.Empty(t, files(t, dir))

			for name, damage := range map[string]func([]byte) []byte{
				"changed":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
				"truncated": func(b []byte) []byte { return b[:len(b)-1] },
				"short":     func(b []byte) []byte { return b[:20] },
				"empty":     func([]byte) []byte { return nil },
				"foreign":   func(b []byte) []byte { b[50] ^= 1; return b },
			} {
				require.NoError(t, engine.ClearCache(dir))
				require.Zero(t, ask(on, prompt).result.Usage.Cached)
				state := files(t, dir)[0]
				b, err := os.ReadFile(state)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(state, damage(b), 0o600))
				a := ask(on, long)
				require.Zero(t, a.result.Usage.Cached, name)
				require.Equal(t, want, a.tokens, name)
				require.NoFileExists(t, state, name)
			}
		})
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.state"))
	require.NoError(t, err)
	return names
}

// TestDiskCacheBounds: the oldest states go where the directory is full.
func TestDiskCacheBounds(t *testing.T) {
	m := loadFixture(t, fixture.Llama(2))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	const most = 200 << 10
	for i := range 6 {
		e, err := engine.New(m, engine.Params{NThreads: 1, MaxSequences: 1, Cache: engine.CacheParams{Dir: dir, DirBytes: most}})
		require.NoError(t, err)
		for k := range 4 {
			generate(t, e, engine.Request{Tokens: letters(150, 10*i+k), MaxTokens: 2, Sampling: greedy()})
		}
		require.NoError(t, e.Close())
		_, size, err := engine.CacheUsage(dir)
		require.NoError(t, err)
		require.LessOrEqual(t, size, int64(most+1000), "%d", i)
		require.NotEmpty(t, files(t, dir))
	}
}

// TestDiskCacheIsPrivate: a directory that others can write to is refused.
func TestDiskCacheIsPrivate(t *testing.T) {
	m := loadFixture(t, fixture.Llama(1))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o770))
	_, err := engine.New(m, engine.Params{Cache: engine.CacheParams{Dir: dir}})
	var bad *engine.ErrInvalid
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "Params.Cache.Dir", bad.Field)

	_, err = engine.New(m, engine.Params{Cache: engine.CacheParams{Dir: dir, HostBytes: -1}})
	require.ErrorAs(t, err, &bad)
	_, err = engine.New(m, engine.Params{Cache: engine.CacheParams{Dir: filepath.Join(dir, "no", "\x00")}})
	require.Error(t, err)
	require.False(t, errors.As(err, &bad))
}
