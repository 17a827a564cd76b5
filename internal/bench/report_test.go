package main

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() *data {
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rounds := func(walls ...float64) []round {
		var r []round
		for _, w := range walls {
			r = append(r, round{When: when, Foreign: 0.012, Metrics: metrics{"cold wall": w, "cold first p50": w / 2, "cold gap p99": 10 / w, "cold computed": 1184}})
		}
		return r
	}
	return &data{Cells: []*cell{
		{Row: "shared", Setting: oursName, Argv: []string{"bin/lm-sandbox", "serve"}, On: "a machine", Discarded: 2, Rounds: rounds(10, 12, 11)},
		{Row: "shared", Setting: "llama-server -np 1", Argv: []string{"llama-server", "-np", "1"}, On: "a machine", Rounds: rounds(13)},
		{Row: "shared", Setting: "llama-server -np 16", Argv: []string{"llama-server", "-np", "16"}, On: "another", Rounds: rounds(10.5, 9.5)},
	}}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	all := loadRows()[:1]
	why := reasons("# a comment: no reason\nshared cold wall: the machine is made of wood\nshared cold gap: never shown\n")
	require.NoError(t, writeReport(&b, sample(), all, across(), why))
	golden := filepath.Join("testdata", "report.md")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String())
}

func TestUndominated(t *testing.T) {
	f := across()[0].figure(sample())
	assert.True(t, f.met, f.text)
	worse := sample()
	for i := range worse.Cells[0].Rounds {
		worse.Cells[0].Rounds[i].Metrics["cold gap p99"] = 99
	}
	f = across()[0].figure(worse)
	assert.False(t, f.met)
	assert.Equal(t, "`llama-server -np 16` in shared, cold", f.text, "-np 1 is slower")
	assert.Empty(t, across()[0].figure(&data{}).text)
}

func TestReasonsHaveGoals(t *testing.T) {
	known := map[string]bool{}
	for _, r := range rows() {
		for _, g := range r.goals {
			assert.False(t, known[g.key], "two goals are %q", g.key)
			known[g.key] = true
		}
	}
	for _, g := range across() {
		known[g.key] = true
	}
	for key := range reasons(reasonsText) {
		assert.True(t, known[key], "reasons.txt is about %q, which no goal is", key)
	}
}

func TestDataFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	d, err := loadData(path)
	require.NoError(t, err)
	assert.Empty(t, d.Cells)
	require.NoError(t, sample().save(path))
	d, err = loadData(path)
	require.NoError(t, err)
	assert.Equal(t, sample(), d)
}

// A round that others disturbed counts as discarded and is measured again; a run that
// resumes keeps what is there.
func TestMeasure(t *testing.T) {
	b := &bench{data: &data{}, path: filepath.Join(t.TempDir(), "r.json"), foreign: 100, settings: regexp.MustCompile(""), log: io.Discard}
	c := b.begin("row", "x", []string{"x"})
	ran := 0
	do := func(context.Context) (metrics, error) { ran++; return metrics{"wall": float64(ran)}, nil }
	require.NoError(t, b.measure(t.Context(), c, do))
	assert.Equal(t, []float64{1}, c.values("wall"))

	b.foreign = -1 // nothing is as quiet as that
	require.ErrorIs(t, b.measure(t.Context(), c, do), errBusy)
	assert.Equal(t, triesPerRound, c.Discarded)

	b.resume = true
	assert.Len(t, b.begin("row", "x", nil).Rounds, 1)
	b.resume = false
	assert.Empty(t, b.begin("row", "x", nil).Rounds)
}

func TestChoose(t *testing.T) {
	all := rows()
	chosen, err := choose(all, "different,shared")
	require.NoError(t, err)
	assert.Equal(t, []string{"different", "shared"}, []string{chosen[0].name, chosen[1].name})
	_, err = choose(all, "nonsense")
	require.ErrorContains(t, err, "there are decode, prefill")
}
