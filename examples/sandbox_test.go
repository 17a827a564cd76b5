package examples

import (
	"strings"
	"testing"
)

func TestSandboxFeatures(t *testing.T) {
	for name, wants := range map[string][]string{
		"audit": {
			`alice ran ["echo hello"] with ["TOKEN"]: exit`, `alice ran ["kill -TERM $$"] with ["TOKEN"]: signal SIGTERM`,
			`alice ran [""] with ["TOKEN"]: error sandbox: command: empty`,
		},
		"changes": {
			"added build\nadded build/answer\nmodified notes.txt\n", `before Commit: "first\n"`, `after Commit: "first\nsecond\n"`,
		},
		"pool":  {"20 commands, none saw another's files; "},
		"allow": {"an answer\n", "no way around\n", "api.example: allowed true", "other.example: allowed false "},
	} {
		t.Run(name, func(t *testing.T) {
			out := runExample(t, name)
			for _, want := range wants {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
		})
	}
}
