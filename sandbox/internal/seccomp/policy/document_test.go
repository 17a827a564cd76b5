package policy

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var errnos = map[string]uint32{"EPERM": EPERM, "ENOSYS": ENOSYS, "EAFNOSUPPORT": EAFNOSUPPORT, "EPROTONOSUPPORT": EPROTONOSUPPORT}

// row is one line of a table of the document.
type row struct {
	calls  []string
	answer string
}

// table returns the rows of a section.
func table(t *testing.T, heading string) []row {
	t.Helper()
	b, err := os.ReadFile("../../../../docs/sandbox-policy.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	require.True(t, ok, "no section %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile("`([a-z0-9_]+)`")
	var rows []row
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		r := row{answer: cells[2]}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			r.calls = append(r.calls, m[1])
		}
		require.NotEmpty(t, strings.TrimSpace(cells[3]), "a reason: %s", line)
		rows = append(rows, r)
	}
	return rows
}

// TestDocument compares docs/sandbox-policy.md with the policy, name by name.
func TestDocument(t *testing.T) {
	answers := map[string]uint32{}
	for _, r := range table(t, "Calls that are refused") {
		for _, call := range r.calls {
			require.NotContains(t, answers, call)
			answers[call] = errnos[strings.TrimSpace(r.answer)]
		}
	}
	require.Equal(t, Namespaces.denied, answers)

	checked := calls(t, table(t, "Calls that are checked"))
	require.Equal(t, slices.Sorted(maps.Keys(Namespaces.rules)), checked)

	rows := table(t, "Without namespaces")
	require.Equal(t, slices.Sorted(maps.Keys(merged(landlockDenied, landlockRules))), calls(t, rows))
	for _, r := range rows {
		for _, call := range r.calls {
			action, always := landlockDenied[call]
			require.Equal(t, always, strings.Contains(r.answer, "always"), call)
			if always {
				_, errno, _ := strings.Cut(r.answer, ": ")
				require.Equal(t, action, errnos[strings.TrimSpace(errno)], call)
			}
		}
	}
}

func calls(t *testing.T, rows []row) []string {
	t.Helper()
	var all []string
	for _, r := range rows {
		all = append(all, r.calls...)
	}
	slices.Sort(all)
	return all
}

func merged(refused map[string]uint32, checked map[string]rule) map[string]bool {
	out := map[string]bool{}
	for call := range refused {
		out[call] = true
	}
	for call := range checked {
		out[call] = true
	}
	return out
}
