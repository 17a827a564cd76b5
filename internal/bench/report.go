package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

const head = `# The engine, measured

Written by ` + "`make bench`" + ` (` + "`go run ./internal/bench`" + `): do not edit. llama.cpp's own programs are of the same tree, from the
objects that lm-sandbox links, but without its edits (third_party/llama.cpp/edits.go). One of these multiplies the default model's Q4_1 weights faster, with the same
bits, and is why ours is ahead in raw speed; what the engine itself costs is in the row of the overhead. Ours is one setting in all loads, the
default one. llama-server is taken at the best value of each
column separately, over all settings of the row. Figures of loads are medians over rounds, the least and the greatest beside them;
of raw speed medians over alternating pairs with a 95 % interval (bootstrap). Rounds during which other processes used more of the
machine than the tables say were discarded. What the sandbox costs is in [docs/sandbox-measures.md](docs/sandbox-measures.md).
`

// writeReport writes the goals, then a table for each row that was measured.
func writeReport(w io.Writer, d *data, all []row, acrossRows []goal, why map[string]string) error {
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\n| work | against | to reach | reached | |\n|---|---|---|---|---|\n")
	for _, r := range all {
		for _, g := range r.goals {
			writeGoal(&b, d, g, why)
		}
	}
	for _, g := range acrossRows {
		writeGoal(&b, d, g, why)
	}
	machines := &notes{}
	for _, r := range all {
		if cells := d.of(r.name); len(cells) > 0 {
			writeRow(&b, r, cells, machines)
		}
	}
	b.WriteString("\n## Measured on\n\n")
	for i, m := range machines.texts {
		fmt.Fprintf(&b, "- %s: %s\n", machines.name(i), m)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeGoal(b *strings.Builder, d *data, g goal, why map[string]string) {
	f := g.figure(d)
	verdict := "met"
	switch {
	case f.text == "":
		f.text, verdict = "not measured", ""
	case !f.met:
		verdict = "**falls short**"
		if reason := why[g.key]; reason != "" {
			verdict += ": " + reason
		}
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", g.work, g.against, g.want, f.text, verdict)
}

func writeRow(b *strings.Builder, r row, cells []*cell, machines *notes) {
	fmt.Fprintf(b, "\n## %s\n", r.title)
	for _, t := range r.tables {
		if t.title != "" {
			fmt.Fprintf(b, "\n%s:\n", t.title)
		}
		writeTable(b, t, cells, machines)
	}
	b.WriteString("\n")
	for _, c := range cells {
		if len(c.Argv) > 0 {
			fmt.Fprintf(b, "- %s: `%s`\n", c.Setting, strings.Join(c.Argv, " "))
		}
	}
}

func writeTable(b *strings.Builder, t table, cells []*cell, machines *notes) {
	b.WriteString("\n| |")
	for _, c := range t.columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString(" rounds (discarded) | measured |\n|---|" + strings.Repeat("---|", len(t.columns)+2) + "\n")
	for _, c := range cells {
		if len(c.Rounds) == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s |", c.Setting)
		for _, column := range t.columns {
			v := c.values(column.metric)
			if column.metric == "ratio" && len(v) > 0 {
				b.WriteString(" " + interval(v) + " |")
			} else {
				b.WriteString(" " + spread(v) + " |")
			}
		}
		fmt.Fprintf(b, " %d (%d) | %s |\n", len(c.Rounds), c.Discarded, measured(c, machines))
	}
}

// spread is a median with the least and the greatest value.
func spread(v []float64) string {
	switch len(v) {
	case 0:
		return "-"
	case 1:
		return number(v[0])
	}
	return fmt.Sprintf("%s (%s to %s)", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

// measured says when, on what, and how much others used of the machine.
func measured(c *cell, machines *notes) string {
	foreign := 0.0
	for _, r := range c.Rounds {
		foreign = max(foreign, r.Foreign)
	}
	last := c.Rounds[len(c.Rounds)-1].When
	return fmt.Sprintf("%s on %s, others ≤ %.0f %%", last.Format("2006-01-02 15:04"), machines.of(c.On), math.Ceil(100*foreign))
}

// notes gives texts short names: A, B, …
type notes struct{ texts []string }

func (n *notes) of(text string) string {
	i := slices.Index(n.texts, text)
	if i < 0 {
		i = len(n.texts)
		n.texts = append(n.texts, text)
	}
	return n.name(i)
}

func (n *notes) name(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return fmt.Sprintf("A%d", i)
}
