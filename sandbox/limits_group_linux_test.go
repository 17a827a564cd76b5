package sandbox

import (
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"github.com/stretchr/testify/require"
)

// needGroup skips a test of what only a control group does.
func needGroup(t *testing.T) {
	t.Helper()
	if _, err := cgroup.Probe(); err != nil {
		t.Skip("needs a control group: it is about what only one of them counts")
	}
}

// withoutGroups is a host that has none.
func withoutGroups(t *testing.T) {
	t.Helper()
	newGroup = func(cgroup.Limits) (*cgroup.Group, error) { return nil, cgroup.ErrNone }
	t.Cleanup(func() { newGroup = cgroup.New })
}

func TestLevelCgroup(t *testing.T) {
	needGroup(t)
	r := run(t, Config{MinLevel: LevelCgroup, Limits: Limits{Memory: 64 << 20}}, "cat /proc/self/cgroup; ls /sys; head -c 20M /dev/zero > /tmp/x; for i in 1 2 3; do sleep 0.1 & done; wait")
	t.Logf("%+v %s", r.Usage, r.Stdout)
	require.Equal(t, LevelCgroup, r.Level)
	require.Greater(t, r.Usage.MemoryPeak, int64(20<<20))
	require.Less(t, r.Usage.MemoryPeak, int64(64<<20+overhead))
	require.GreaterOrEqual(t, r.Usage.PidsPeak, int64(4))
	require.Positive(t, r.Usage.CPU)
	require.Less(t, r.Usage.CPU, 5*time.Second)
	withoutGroups(t)
	_, err := Run(t.Context(), Config{MinLevel: LevelCgroup}, "true")
	var level *ErrLevel
	require.ErrorAs(t, err, &level)
	require.Equal(t, LevelNamespaces, level.Have)
	require.NotEmpty(t, level.Remedy)
	require.Equal(t, LevelNamespaces, run(t, Config{}, "true").Level)
}
