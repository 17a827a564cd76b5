package main

import (
	"context"
	"fmt"
	"slices"
)

// row is a kind of measurement with a table of its own.
type row struct {
	name    string // for -rows
	title   string
	tables  []table
	minutes float64 // that one round of all settings takes on two cores
	// pairMinutes instead are those of a pair.
	pairMinutes float64
	measure     func(*bench, context.Context, string) error
	goals       []goal
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
	return slices.Concat(speedRows(), loadRows(), otherRows())
}

func speedRows() []row {
	streamGoals := make([]goal, len(streamCounts))
	for i, n := range streamCounts {
		streamGoals[i] = goal{fmt.Sprintf("decode, %d streams", n), "llama-batched-bench, its better layout", "≥ 0.97", fmt.Sprintf("streams %d", n),
			pairRatio("streams", streamsFigure(n)+" ", 0.97)}
	}
	return []row{
		{
			name: "decode", title: "Decode, 1 stream, tokens/s", pairMinutes: 0.25, measure: (*bench).decode, tables: pairTables("tokens/s"),
			goals: []goal{{"decode, 1 stream, with and without sampling", "llama-bench tg128", "≥ 0.99", "decode", pairRatio("decode", "", 0.99)}},
		},
		{
			name: "prefill", title: "Prefill of 512 tokens, tokens/s", pairMinutes: 0.1, measure: (*bench).prefill, tables: pairTables("tokens/s"),
			goals: []goal{{"prefill 512", "llama-bench pp512", "≥ 0.99", "prefill", pairRatio("prefill", "", 0.99)}},
		},
		{
			name: "streams", title: "Decode, several streams, tokens/s of all", pairMinutes: 1.5, measure: (*bench).parallel, tables: pairTables("tokens/s"),
			goals: streamGoals,
		},
		{
			name: "full-cache", title: "Decode, 1 stream, beside finished sequences, tokens/s", pairMinutes: 0.1, measure: (*bench).fullCache, tables: pairTables("tokens/s"),
			goals: []goal{{"decode, 1 stream, cache 90 % full of finished sequences", "the same, cache empty", "≥ 0.90", "full-cache", pairRatio("full-cache", "", 0.9)}},
		},
	}
}

func loadRows() []row {
	return []row{
		{
			name: "shared", title: "16 clients at once, one system prompt", minutes: 4, measure: (*bench).shared,
			tables: []table{{"Cold", phaseColumns("cold")}, {"The same requests again", phaseColumns("again")}, {"New questions behind the same system prompt", phaseColumns("new")}},
			goals: []goal{
				{"16 clients, shared system prompt, cold", "llama-server's best", "wall ≤ 0.85", "shared cold wall", ratioToBest("shared", "cold wall", 0.85)},
				{"", "llama-batched-bench -pps", "wall ≤ 1.3", "shared cold batched", ratioToRow("shared", "cold wall", "batched", "wall", 1.3)},
				{"", "llama-server's best", "first token p50 ≤ 0.65", "shared cold first", ratioToBest("shared", "cold first p50", 0.65)},
				{"", "", "inter-token p99 ≤ 0.45 s", "shared cold gap", atMost("shared", "cold gap p99", 0.45, "s")},
				{"the same requests again, warm", "llama-server's best", "wall ≤ 1.0", "shared again wall", ratioToBest("shared", "again wall", 1)},
				{"", "", "first token p50 ≤ 1.0", "shared again first", ratioToBest("shared", "again first p50", 1)},
				{"new questions behind the same prompt, warm", "llama-server's best", "wall ≤ 1.0", "shared new wall", ratioToBest("shared", "new wall", 1)},
				{"", "", "first token p50 ≤ 1.0", "shared new first", ratioToBest("shared", "new first p50", 1)},
			},
		},
		{
			name: "batched", title: "llama-batched-bench with the shared prompt", minutes: 0.5, measure: (*bench).batched,
			tables: []table{{"", []column{{"wall", "wall, s"}}}},
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
		{
			name: "arrival", title: "8 streams run, a prompt of 2000 tokens arrives", minutes: 4.5, measure: (*bench).arrival,
			tables: []table{{"", []column{{"longest gap", "longest gap of the 8, s"}, {"newcomer", "newcomer's first token, s"}, {"gap p99", "inter-token p99 until then, s"}, {"wall", "newcomer's end, s"}}}},
			goals: []goal{
				{"8 streams run, a 2000-token prompt arrives", "each setting of llama-server, at the pace with the same newcomer's time", "longest gap ≤ 0.8", "arrival pace", gapAtSameTime},
				{"", "default pace", "longest gap ≤ 1.0 s", "arrival gap", atMost("arrival", "longest gap", 1, "s")},
				{"", "llama-server's best, default pace", "newcomer's first token ≤ 1.25", "arrival newcomer", ratioToBest("arrival", "newcomer", 1.25)},
			},
		},
		{
			name: "agent", title: "Agent traffic: 8 conversations of 6 turns, a tool result after each", minutes: 6, measure: (*bench).agent,
			tables: []table{{"", phaseColumns("agent")}},
			goals: []goal{
				{"agent traffic: 8 conversations of 6 turns, each adds a tool result", "llama-server's best", "prefilled tokens ≤ 1.0", "agent computed", ratioToBest("agent", "agent computed", 1)},
				{"", "", "wall ≤ 1.0", "agent wall", ratioToBest("agent", "agent wall", 1)},
			},
		},
	}
}

func otherRows() []row {
	return []row{
		{
			name: "layout", title: "Decode of sequences that have nothing in common, by the layout of the context, tokens/s", pairMinutes: 0.8, measure: (*bench).layouts,
			tables: []table{{"", []column{{"ratio", "unified / streams, 95 % interval"}, {"ours", "unified, tokens/s"}, {"theirs", "streams, tokens/s"}}}},
		},
		{
			name: "cancel", title: "Cancelled requests", minutes: 0.7, measure: (*bench).cancel,
			tables: []table{
				{"Alone", cancelColumns(0)}, {"With 15 neighbours", cancelColumns(clients - 1)},
				{"Seven streams beside a client that cancels 100 requests a second", []column{{"kept", "of their speed, they keep"}}},
			},
			goals: []goal{{"a client that cancels 100 requests a second", "7 others without it", "speed ≥ 0.90", "cancel", atLeast("cancel", "kept", 0.9)}},
		},
		{
			name: "speculative", title: "Speculative decoding by n-grams of 3, tokens/s", pairMinutes: 0.1, measure: (*bench).speculative,
			tables: []table{{"", []column{
				{"ratio", "ratio, 95 % interval"}, {"ours", "guessing, tokens/s"}, {"theirs", "not, tokens/s"}, {"differ", "answers that differ"},
				{"drafted", "guesses per token"}, {"accepted", "of them right"},
			}}},
			goals: []goal{
				{"speculative decoding, a list said again", "without", "≥ 1.3", "speculative repetitive", pairRatio("speculative", repetitive, 1.3)},
				{"speculative decoding, prose", "without", "≥ 0.97", "speculative prose", pairRatio("speculative", prose, 0.97)},
			},
		},
		{
			name: "schema", title: "Output that follows a JSON schema, tokens/s", pairMinutes: 0.4, measure: (*bench).schema, tables: pairTables("tokens/s"),
			goals: []goal{{"JSON-schema output", "llama-server's best", "tokens/s ≥ 1.0", "schema", pairRatio("schema", "", 1)}},
		},
		{
			name: "embed", title: "Texts of 100 tokens embedded, 100 a round", pairMinutes: 1.2, measure: (*bench).embeddings, tables: pairTables("texts/s"),
			goals: []goal{{"texts of 100 tokens embedded, 100 a round", "llama-server's best", "texts/s ≥ 1.0", "embed", pairRatio("embed", "", 1)}},
		},
		{
			name: "overhead", title: "Time of a step outside llama_decode and sampling", minutes: 0.7, measure: (*bench).overhead,
			tables: []table{{"", []column{{"outside 1", "1 stream, µs"}, {"step 1", "of a step of, ms"}, {"share 1", "%"}, {"outside 32", "32 streams, µs"}, {"step 32", "of a step of, ms"}, {"share 32", "%"}}}},
			goals: []goal{
				{"Go overhead per token, 1 stream", "step", "≤ 0.5 %", "overhead 1", atMost("overhead", overheadFigure(1), 0.5, "%")},
				{"Go overhead per token, 32 streams", "step", "≤ 2 %", "overhead 32", atMost("overhead", overheadFigure(32), 2, "%")},
			},
		},
		{
			name: "tune", title: "What Tune finds under a loss of 0.001 nats", minutes: 4, measure: (*bench).tune,
			tables: []table{{"The default model", tuneColumns("")}, {"The same model as " + slowType, tuneColumns(slowType + " ")}},
			goals: []goal{
				{"the default model after Tune with a lossless bound (KL ≤ 0.001)", "before", "prefill ≥ 2.0", "tune prefill", atLeast("tune", "prefill", 2)},
				{"", "", "decode ≥ 0.9", "tune decode", atLeast("tune", "decode", 0.9)},
				{"the same model as " + slowType + ", which has no fast products", "before", "prefill ≥ 2.0", "tune slow prefill", atLeast("tune", slowType+" prefill", 2)},
				{"", "", "decode ≥ 0.9", "tune slow decode", atLeast("tune", slowType+" decode", 0.9)},
			},
		},
		{
			name: "isolated", title: "Isolated, tokens/s", pairMinutes: 0.7, measure: (*bench).isolated, tables: pairTables("tokens/s"),
			goals: []goal{{"Isolated", "in-process", "tokens/s ≥ 0.97", "isolated", pairRatio("isolated", "", 0.97)}},
		},
		{
			name: "restart", title: "Process start to first token, a prompt of 600 tokens seen before", minutes: 0.6, measure: (*bench).restart,
			tables: []table{{"", []column{{"first token", "first token, s"}, {"start", "of it until healthy, s"}, {"computed", "prompt tokens computed"}}}},
			goals: []goal{
				{"process start → first token, 600-token prompt seen before the restart", "llama-server", "≤ 1/4", "restart", ratioTo("restart", "first token", restartServer, 0.25)},
				{"", "one whose client has saved its slot and restores it", "≤ 1/4", "restart saved", ratioTo("restart", "first token", restartSaver, 0.25)},
			},
		},
		{
			name: "memory", title: "Start and memory, 16 sequences, 8192 cells", minutes: 1.5, measure: (*bench).memory,
			tables: []table{{"", []column{{"start", "start until healthy, s"}, {"memory", "memory while 16 sequences run, MiB"}, {"after", "when they have ended (ours keeps their beginnings, up to Cache.HostBytes), MiB"}}}},
			goals: []goal{
				{"load of the model: start until healthy", "llama-server", "≤ 1.0", "memory start", ratioToBest("memory", "start", 1)},
				{"memory while 16 sequences run (proportional set size)", "llama-server", "≤ 1.05", "memory", ratioToBest("memory", "memory", 1.05)},
			},
		},
		{
			name: "open-close", title: "Memory after engines were opened and closed", minutes: 1, measure: (*bench).openClose,
			tables: []table{{"", []column{{"few", "after 5, MiB"}, {"many", "after 100, MiB"}, {"growth", "ratio"}}}},
			goals:  []goal{{"RSS after 100 open/close rounds", "after 5 rounds", "≤ 1.05", "open-close", atMost("open-close", "growth", 1.05, "times")}},
		},
		{
			name: "yzma", title: "Decode, 1 stream, through Go bindings, tokens/s", pairMinutes: 0.1, measure: (*bench).yzma, tables: pairTables("tokens/s"),
			goals: []goal{{"single stream", "yzma v1.24.0 with shared libraries of the same tree", "≥ 1.0", "yzma", pairRatio("yzma", "", 1)}},
		},
	}
}

func pairTables(unit string) []table {
	return []table{{"", []column{{"ratio", "ratio, 95 % interval"}, {"ours", "ours, " + unit}, {"theirs", "theirs, " + unit}}}}
}

// across are the goals about several rows.
func across() []goal {
	return []goal{
		{"every load", "every setting of llama-server", "none is better in both wall and inter-token p99", "undominated", undominated([]load{
			{"shared, cold", "shared", "cold wall", "cold gap p99"},
			{"shared, again", "shared", "again wall", "again gap p99"},
			{"shared, new questions", "shared", "new wall", "new gap p99"},
			{"different", "different", "cold wall", "cold gap p99"},
			{"arrival", "arrival", "wall", "gap p99"},
			{"agent traffic", "agent", "agent wall", "agent gap p99"},
		})},
	}
}

func tuneColumns(prefix string) []column {
	return []column{
		{prefix + "file prefill", "the file's prefill, tokens/s"}, {prefix + "file decode", "decode, tokens/s"},
		{prefix + "prefill", "gain of prefill"}, {prefix + "decode", "of decode"}, {prefix + "loss", "loss, nats"},
	}
}

func cancelColumns(neighbours int) []column {
	name := func(metric string) string { return fmt.Sprintf("%s %d", metric, neighbours) }
	return []column{
		{name("silent p50"), "until the last output p50, ms"}, {name("silent p99"), "p99, ms"},
		{name("free p50"), "until the cells are free p50, ms"}, {name("free p99"), "p99, ms"},
	}
}

func phaseColumns(phase string) []column {
	return []column{
		{phase + " wall", "wall, s"}, {phase + " first p50", "first token p50, s"},
		{phase + " gap p99", "inter-token p99, s"}, {phase + " computed", "prompt tokens computed"},
	}
}
