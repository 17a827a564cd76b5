package main

import "context"

// row is a kind of measurement with a table of its own.
type row struct {
	name    string // for -rows
	title   string
	tables  []table
	minutes float64 // that one round of all settings takes on two cores
	measure func(*bench, context.Context, string) error
	goals   []goal
}

// table shows some metrics of a row.
type table struct {
	title   string // "" where the row has only one
	columns []column
}

// column is a metric of the table.
type column struct{ metric, title string }

// rows are in the order of the report.
func rows() []row {
	return []row{
		{
			name: "shared", title: "16 clients at once, one system prompt", minutes: 4, measure: (*bench).shared,
			tables: []table{{"Cold", phaseColumns("cold")}, {"The same requests again", phaseColumns("again")}, {"New questions behind the same system prompt", phaseColumns("new")}},
			goals: []goal{
				{"16 clients, shared system prompt, cold", "llama-server's best", "wall ≤ 0.85", "shared cold wall", ratioToBest("shared", "cold wall", 0.85)},
				{"", "", "first token p50 ≤ 0.65", "shared cold first", ratioToBest("shared", "cold first p50", 0.65)},
				{"", "", "inter-token p99 ≤ 0.45 s", "shared cold gap", atMost("shared", "cold gap p99", 0.45, "s")},
				{"the same requests again, warm", "llama-server's best", "wall ≤ 1.0", "shared again wall", ratioToBest("shared", "again wall", 1)},
				{"", "", "first token p50 ≤ 1.0", "shared again first", ratioToBest("shared", "again first p50", 1)},
				{"new questions behind the same prompt, warm", "llama-server's best", "wall ≤ 1.0", "shared new wall", ratioToBest("shared", "new wall", 1)},
				{"", "", "first token p50 ≤ 1.0", "shared new first", ratioToBest("shared", "new first p50", 1)},
			},
		},
		{
			name: "different", title: "16 clients at once, 16 system prompts", minutes: 7.5, measure: (*bench).different,
			tables: []table{{"", phaseColumns("cold")}},
			goals: []goal{
				{"16 clients, 16 different system prompts, cold", "llama-server's best", "wall ≤ 1.03", "different wall", ratioToBest("different", "cold wall", 1.03)},
				{"", "", "first token p50 ≤ 0.9", "different first", ratioToBest("different", "cold first p50", 0.9)},
				{"", "", "inter-token p99 ≤ 1.5 s", "different gap", atMost("different", "cold gap p99", 1.5, "s")},
			},
		},
	}
}

// across are the goals about several rows.
func across() []goal {
	return []goal{
		{"every load", "every setting of llama-server", "none is better in both wall and inter-token p99", "undominated", undominated([]load{
			{"shared, cold", "shared", "cold wall", "cold gap p99"},
			{"shared, again", "shared", "again wall", "again gap p99"},
			{"shared, new questions", "shared", "new wall", "new gap p99"},
			{"different", "different", "cold wall", "cold gap p99"},
		})},
	}
}

func phaseColumns(phase string) []column {
	return []column{
		{phase + " wall", "wall, s"}, {phase + " first p50", "first token p50, s"},
		{phase + " gap p99", "inter-token p99, s"}, {phase + " computed", "prompt tokens computed"},
	}
}
