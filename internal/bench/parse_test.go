package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBench(t *testing.T) {
	x, err := parseBench([]byte(`[{"build_commit":"tree-fd570ef54","n_gen":128,"avg_ts":87.953275,"samples_ts":[87.9]}]`))
	require.NoError(t, err)
	assert.Equal(t, 87.953275, x)
	for _, bad := range []string{"", "[]", "{}", `[{"avg_ts":0}]`, `[{"avg_ts":1},{"avg_ts":2}]`} {
		_, err := parseBench([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParseBatched(t *testing.T) {
	r, err := parseBatched([]byte(`
main: n_kv_max = 4096
{"n_kv_max": 4096, "n_threads": 2, "pp": 64, "tg": 8, "pl": 2, "n_kv": 80, "t_pp": 1.402429, "speed_pp": 45.635109, "t_tg": 0.385602, "speed_tg": 41.493561, "t": 1.788031, "speed": 44.741955}
{"n_kv_max": 4096, "n_threads": 2, "pp": 64, "tg": 8, "pl": 4, "n_kv": 96, "t_pp": 0.717173, "speed_pp": 89.239281, "t_tg": 0.862564, "speed_tg": 37.098694, "t": 1.579737, "speed": 60.769611}

llama_perf_context_print: load time = 1 ms
`))
	require.NoError(t, err)
	assert.Equal(t, []batchedResult{{2, 1.788031, 41.493561}, {4, 1.579737, 37.098694}}, r)
	_, err = parseBatched([]byte("no room\n"))
	require.ErrorContains(t, err, "no room")
}

func TestParseResident(t *testing.T) {
	n, err := parseResident([]byte("Name:\tbench\nVmHWM:\t  9999 kB\nVmRSS:\t    2048 kB\n"))
	require.NoError(t, err)
	assert.Equal(t, 2*mb, n)
	_, err = parseResident([]byte("Name:\tbench\n"))
	require.Error(t, err)
}

func TestOnLine(t *testing.T) {
	points := []point{{20, 0.5}, {10, 2}, {15, 1}}
	for _, test := range []struct{ x, y float64 }{{10, 2}, {12.5, 1.5}, {15, 1}, {17.5, 0.75}, {20, 0.5}, {99, 0.5}} {
		y, ok := onLine(points, test.x)
		assert.True(t, ok)
		assert.InDelta(t, test.y, y, 1e-9, "at %g", test.x)
	}
	_, ok := onLine(points, 9)
	assert.False(t, ok, "no pace is as quick")
}

func TestGapAtSameTime(t *testing.T) {
	cellOf := func(setting string, newcomer, gap float64) *cell {
		return &cell{Row: "arrival", Setting: setting, Rounds: []round{{Metrics: metrics{"newcomer": newcomer, "longest gap": gap}}}}
	}
	d := &data{Cells: []*cell{
		cellOf(oursName, 12, 0.8), cellOf(oursName+" --pace=2s", 10, 2),
		cellOf("llama-server -np 9 -b 64", 15, 1), cellOf("llama-server -np 9 -b 256", 11, 2),
	}}
	f := gapAtSameTime(d)
	assert.Equal(t, figure{"`-b 64`: 0.80, `-b 256`: 0.70", true}, f)
	d.Cells = append(d.Cells, cellOf("llama-server -np 9 -b 2048", 9, 9))
	f = gapAtSameTime(d)
	assert.False(t, f.met)
	assert.Contains(t, f.text, "`-b 2048`: no pace is as quick")
	assert.Empty(t, gapAtSameTime(&data{}).text)
}

func TestPairRatio(t *testing.T) {
	ratios := func(setting string, v ...float64) *cell {
		c := &cell{Row: "streams", Setting: setting}
		for _, x := range v {
			c.Rounds = append(c.Rounds, round{Metrics: metrics{"ratio": x}})
		}
		return c
	}
	d := &data{Cells: []*cell{ratios("2 streams against -kvu", 1.2, 1.1, 1.3), ratios("2 streams against -no-kvu", 0.98, 0.98, 0.98), ratios("4 streams against -kvu", 0.5)}}
	assert.Equal(t, figure{"0.980 (0.980 to 0.980) 2 streams against -no-kvu", true}, pairRatio("streams", "2 streams ", 0.97)(d))
	assert.False(t, pairRatio("streams", "4 streams ", 0.97)(d).met)
	assert.Empty(t, pairRatio("streams", "8 streams ", 0.97)(d).text)
}
