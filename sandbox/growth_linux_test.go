package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// 53, 54: a workspace of the host.
func TestWorkspaceGrowth(t *testing.T) {
	limits := Limits{Workspace: 8 << 20, WorkspaceFiles: 200, Wall: 20 * time.Second}
	const wait = "; sleep 1000"
	tests := map[string]struct {
		command string
		limit   LimitKind
	}{
		"one file":          {"head -c 40M /dev/zero > f" + wait, LimitDisk},
		"many files":        {"for i in {1..40}; do head -c 1M /dev/zero > $i; done" + wait, LimitDisk},
		"reserved":          {"fallocate -l 40M f" + wait, LimitDisk},
		"in a deep place":   {"mkdir -p a/b/c && head -c 40M /dev/zero > a/b/c/f" + wait, LimitDisk},
		"too many files":    {"touch {1..300}" + wait, LimitDisk},
		"too deep":          {"for i in {1..300}; do mkdir d && cd d; done" + wait, LimitDisk},
		"hidden":            {"mkdir d && chmod 300 d && head -c 40M /dev/zero > d/f" + wait, LimitDisk},
		"at once":           {"head -c 40M /dev/zero > f", LimitDisk},
		"sparse":            {"truncate -s 40M f", LimitNone},
		"links of one":      {"head -c 6M /dev/zero > f && ln f g && ln f h", LimitNone},
		"a link elsewhere":  {"ln -s /usr usr", LimitNone},
		"replaced":          {"for i in 1 2 3 4; do head -c 6M /dev/zero > f; done; mv old new", LimitNone},
		"a pipe":            {"mkfifo p", LimitNone},
		"what was there":    {"cat old > /dev/null", LimitNone},
		"files then fewer":  {"touch {1..150} && rm {1..150} && touch {1..150}", LimitNone},
		"not the workspace": {"head -c 40M /dev/zero > /tmp/f", LimitNone},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(ws, "old"), make([]byte, 20<<20), 0o644))
			r := run(t, Config{Workspace: ws, Limits: limits}, tc.command)
			require.Equal(t, tc.limit, r.Limit, "%s", r.Stderr)
			if tc.limit == LimitNone {
				require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
			}
			_ = os.Chmod(filepath.Join(ws, "d"), 0o755) // for its removal
		})
	}
}

func TestWorkspaceGrowthOfManyFiles(t *testing.T) {
	ws := t.TempDir()
	for i := range 2000 {
		require.NoError(t, os.WriteFile(filepath.Join(ws, fmt.Sprint(i)), []byte("x"), 0o644))
	}
	g, err := newGrowth(ws, Limits{Workspace: 1})
	require.NoError(t, err)
	defer g.close()
	require.Equal(t, int64(2000), g.first.files)
	require.False(t, g.exceeded(nil))
	require.NoError(t, os.WriteFile(filepath.Join(ws, "more"), []byte("x"), 0o644))
	require.True(t, g.exceeded(nil))
}
