package main

import (
	_ "embed"
	"fmt"
	"math"
	"strings"
)

// goal is a line of the report: what is to be reached against whom.
type goal struct {
	work, against, want string
	key                 string // under which reasons.txt explains a figure that falls short
	figure              func(*data) figure
}

// figure is what was reached. Its text is empty where nothing was measured.
type figure struct {
	text string
	met  bool
}

// ours is the median of our cell of a row; NaN where it was not measured.
func (d *data) ours(row, metric string) float64 {
	return median(d.cell(row, oursName).values(metric))
}

// bestOther is the least value of a metric among the settings that are not ours, and
// whose it is.
func (d *data) bestOther(row, metric string) (best float64, setting string) {
	best = math.NaN()
	for _, c := range d.of(row) {
		v := median(c.values(metric))
		if strings.HasPrefix(c.Setting, oursName) || math.IsNaN(v) {
			continue
		}
		if math.IsNaN(best) || v < best {
			best, setting = v, c.Setting
		}
	}
	return best, setting
}

// ratioToBest compares our value of a metric where less is better with the best one
// of all other settings.
func ratioToBest(row, metric string, most float64) func(*data) figure {
	return func(d *data) figure {
		best, setting := d.bestOther(row, metric)
		x := d.ours(row, metric)
		return compare(x, best, most, fmt.Sprintf("%s against %s of `%s`", number(x), number(best), setting))
	}
}

// ratioTo compares it with one setting.
func ratioTo(row, metric, setting string, most float64) func(*data) figure {
	return func(d *data) figure {
		x, y := d.ours(row, metric), median(d.cell(row, setting).values(metric))
		return compare(x, y, most, fmt.Sprintf("%s against %s of `%s`", number(x), number(y), setting))
	}
}

// ratioToRow compares it with the best one of another row.
func ratioToRow(row, metric, other, otherMetric string, most float64) func(*data) figure {
	return func(d *data) figure {
		best, setting := d.bestOther(other, otherMetric)
		x := d.ours(row, metric)
		return compare(x, best, most, fmt.Sprintf("%s against %s of `%s`", number(x), number(best), setting))
	}
}

func compare(x, y, most float64, detail string) figure {
	if math.IsNaN(x) || math.IsNaN(y) {
		return figure{}
	}
	return figure{text: fmt.Sprintf("%.2f (%s)", x/y, detail), met: x/y <= most}
}

// atMost is about our value alone.
func atMost(row, metric string, most float64, unit string) func(*data) figure {
	return alone(row, metric, unit, func(x float64) bool { return x <= most })
}

// atLeast is, too; the value is a ratio.
func atLeast(row, metric string, least float64) func(*data) figure {
	return alone(row, metric, "times", func(x float64) bool { return x >= least })
}

func alone(row, metric, unit string, met func(float64) bool) func(*data) figure {
	return func(d *data) figure {
		x := d.ours(row, metric)
		if math.IsNaN(x) {
			return figure{}
		}
		return figure{text: number(x) + " " + unit, met: met(x)}
	}
}

// pairRatio is the least of the medians of a row's pairs, those of all opponents or of
// cells whose names begin so, with its 95 % interval; more is better.
func pairRatio(row, prefix string, least float64) func(*data) figure {
	return func(d *data) figure {
		worst, text := math.Inf(1), ""
		for _, c := range d.of(row) {
			ratios := c.values("ratio")
			if x := median(ratios); strings.HasPrefix(c.Setting, prefix) && x < worst {
				worst, text = x, interval(ratios)+" "+c.Setting
			}
		}
		return figure{text: text, met: worst >= least}
	}
}

// interval is a median with its 95 % interval.
func interval(v []float64) string {
	low, high := medianInterval(v)
	return fmt.Sprintf("%.3f (%.3f to %.3f)", median(v), low, high)
}

// undominated asks of every load that no setting is better than ours in both wall
// time and the p99 between tokens.
func undominated(loads []load) func(*data) figure {
	return func(d *data) figure {
		var better []string
		measured := 0
		for _, l := range loads {
			wall, gap := d.ours(l.row, l.wall), d.ours(l.row, l.gap)
			for _, c := range d.of(l.row) {
				w, g := median(c.values(l.wall)), median(c.values(l.gap))
				if strings.HasPrefix(c.Setting, oursName) || math.IsNaN(w+g+wall+gap) {
					continue
				}
				measured++
				if w < wall && g < gap {
					better = append(better, fmt.Sprintf("`%s` in %s", c.Setting, l.name))
				}
			}
		}
		switch {
		case measured == 0:
			return figure{}
		case len(better) == 0:
			return figure{text: fmt.Sprintf("none of %d", measured), met: true}
		}
		return figure{text: strings.Join(better, ", ")}
	}
}

// load names the metrics of one phase of a row.
type load struct{ name, row, wall, gap string }

// number is short: three digits that count.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

//go:embed reasons.txt
var reasonsText string

// reasons are texts by the key of a goal: "KEY: TEXT" lines.
func reasons(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if key, reason, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			m[key] = reason
		}
	}
	return m
}
