package main

import (
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBusy(t *testing.T) {
	busy, err := parseBusy([]byte("cpu  100 200 300 9999 8888 10 20 30 7 7\ncpu0 1 2 3\n"))
	require.NoError(t, err)
	assert.Equal(t, 6.6, busy, "neither idle nor iowait; a guest's time is in user's")
	_, err = parseBusy([]byte("nonsense"))
	require.Error(t, err)
}

func TestParseProcess(t *testing.T) {
	p, err := parseProcess("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 5 6 7")
	require.NoError(t, err)
	assert.Equal(t, process{pid: 42, parent: 7, seconds: 2}, p)
	for _, bad := range []string{"", "42", "42 (a", "42 (a) S 7", "x (a) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 25 25 20"} {
		_, err := parseProcess(bad)
		require.Error(t, err, bad)
	}
}

// What a child's child uses is our own, while it runs and when it has ended.
func TestMeterKnowsItsOwn(t *testing.T) {
	_, before, err := cpuSeconds()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & wait")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var below []process
	require.Eventually(t, func() bool {
		_, own, err := cpuSeconds()
		require.NoError(t, err)
		below, err = descendants(cmd.Process.Pid)
		require.NoError(t, err)
		return len(below) == 1 && below[0].seconds > 0.1 && own-before > 0.1
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, exec.Command("kill", "-9", strconv.Itoa(below[0].pid)).Run())
	require.NoError(t, cmd.Wait())
	_, own, err := cpuSeconds()
	require.NoError(t, err)
	assert.Greater(t, own-before, 0.1)
}

func TestParsePss(t *testing.T) {
	n, err := parsePss([]byte("55d-7ff ---p 00000000 00:00 0 [rollup]\nRss:            2048 kB\nPss:            1024 kB\nPss_Anon: 1 kB\n"))
	require.NoError(t, err)
	assert.Equal(t, 1<<20, n)
	_, err = parsePss([]byte("Rss: 1 kB\n"))
	require.Error(t, err)
}
