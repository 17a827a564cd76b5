package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// auditLog opens a file of records and returns what reads them.
func auditLog(t *testing.T) (*AuditFile, func() []map[string]any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, err := OpenAuditFile(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f, func() []map[string]any { return auditLines(t, path) }
}

func auditLines(t *testing.T, path string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var records []map[string]any
	for line := range bytes.Lines(b) {
		var record map[string]any
		require.NoError(t, json.Unmarshal(line, &record), "%.200q", line)
		records = append(records, record)
	}
	return records
}

func TestAuditRecords(t *testing.T) {
	f, lines := auditLog(t)
	ws := t.TempDir()
	c := Config{Workspace: ws, Audit: f.WithAttrs([]slog.Attr{slog.String("actor", "alice")}),
		Env: map[string]string{"TOKEN": "hunter2"}, Stdin: strings.NewReader("typed in secret")}
	for command, want := range map[string]map[string]any{
		"cat; echo shown; exit 3": {"outcome": "exit", "exit_code": 3., "limit": ""},
		"kill -TERM $$":           {"outcome": "signal", "signal": "SIGTERM", "exit_code": 143.},
		"sleep 300":               {"outcome": "limit", "limit": "timeout"},
	} {
		before := len(lines())
		c.Limits.Wall = 0
		if strings.HasPrefix(command, "sleep") {
			c.Limits.Wall = 100 * time.Millisecond
		}
		_, err := Run(t.Context(), c, command)
		require.NoError(t, err)
		records := lines()
		require.Len(t, records, before+1, "one record for each run")
		r := records[before]
		for k, v := range want {
			require.Equal(t, v, r[k], "%s: %s", command, k)
		}
		require.Equal(t, "sandbox run", r["msg"])
		require.Equal(t, "alice", r["actor"])
		require.Equal(t, []any{command}, r["argv"])
		require.EqualValues(t, os.Getuid(), r["uid"])
		require.Equal(t, ws, r["workspace"])
		require.NotEqual(t, "none", r["isolation"])
		require.Equal(t, []any{"TOKEN"}, r["env"])
		require.Len(t, r["policy"], 64)
		require.EqualValues(t, DefaultMemory, r["limits"].(map[string]any)["Memory"], "limits are those in force")
		begin, err := time.Parse(time.RFC3339Nano, r["begin"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), begin, time.Minute)
	}
	b, err := os.ReadFile(f.sink.path)
	require.NoError(t, err)
	for _, secret := range []string{"hunter2", "typed in secret", "shown\\n"} {
		require.NotContains(t, string(b), secret)
	}
}

// What was refused or could not start is on record too.
func TestAuditRefusals(t *testing.T) {
	f, lines := auditLog(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		class string
		run   func() error
	}{
		{"ErrConfig", func() error { _, err := Run(t.Context(), Config{Audit: f}, ""); return err }},
		{"ErrConfig", func() error { _, err := Run(t.Context(), Config{Audit: f, Dir: "/none"}, "true"); return err }},
		{"ErrConfig", func() error { _, err := Start(t.Context(), Config{Audit: f}); return err }},
		{"ErrExec", func() error { _, err := Start(t.Context(), Config{Audit: f}, "/no/such"); return err }},
		{"canceled", func() error { _, err := Run(canceled, Config{Audit: f}, "true"); return err }},
		{"ErrConfig", func() error { _, err := NewSession(t.Context(), Config{Audit: f, Dir: "x"}); return err }},
		{"ErrStream", func() error {
			_, err := Run(t.Context(), Config{Audit: f, Stdout: &brokenWriter{}}, "echo x")
			return err
		}},
	} {
		before := len(lines())
		require.Error(t, tc.run())
		records := lines()
		require.Len(t, records, before+1)
		require.Equal(t, tc.class, records[before]["error_class"])
		require.Equal(t, "error", records[before]["outcome"])
		require.NotEmpty(t, records[before]["error"])
	}
}

func TestAuditSession(t *testing.T) {
	f, lines := auditLog(t)
	s, err := NewSession(t.Context(), Config{Audit: f})
	require.NoError(t, err)
	for _, command := range []string{"cd /tmp", "false"} {
		_, err = s.Exec(t.Context(), command)
		require.NoError(t, err)
	}
	_, err = s.Exec(t.Context(), "\x00")
	require.Error(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Exec(t.Context(), "true")
	require.ErrorIs(t, err, ErrClosed)
	records := lines()
	require.Len(t, records, 5)
	end := records[3]
	require.Equal(t, "sandbox session", end["msg"])
	for i, want := range []string{"exit", "exit", "error", "", "error"} {
		if i == 3 {
			continue
		}
		require.Equal(t, "sandbox exec", records[i]["msg"])
		require.Equal(t, want, records[i]["outcome"])
		require.Equal(t, end["id"], records[i]["session"])
		require.Equal(t, end["policy"], records[i]["policy"])
	}
	require.Equal(t, 1., records[1]["exit_code"])
	require.Equal(t, "ErrClosed", records[4]["error_class"])
}

func TestAuditUsageAndNet(t *testing.T) {
	f, lines := auditLog(t)
	c := Config{Audit: f, Net: NetAllowList, Allow: AllowList{Rules: []string{"example.com"}}}
	_, err := Run(t.Context(), c, "curl -s http://refused.example/")
	require.NoError(t, err)
	r := lines()[0]
	require.Positive(t, r["usage"].(map[string]any)["CPU"])
	net := r["net"].([]any)
	require.Len(t, net, 1)
	require.Equal(t, "refused.example", net[0].(map[string]any)["Host"])
	require.Equal(t, false, net[0].(map[string]any)["Allowed"])
}

func TestAuditChanges(t *testing.T) {
	f, lines := auditLog(t)
	o, err := NewOverlay(t.TempDir(), OverlayOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = o.Close() })
	for _, command := range []string{"echo > a", "mkdir b; echo > b/c"} {
		_, err = Run(t.Context(), Config{Audit: f, Overlay: o}, command)
		require.NoError(t, err)
	}
	_, err = Run(t.Context(), Config{Audit: f, Workspace: t.TempDir(), Protect: []string{".envrc"}}, "touch .envrc")
	require.NoError(t, err)
	records := lines()
	require.Equal(t, []any{"added a"}, records[0]["changes"])
	require.Equal(t, []any{"added a", "added b", "added b/c"}, records[1]["changes"], "against the base")
	require.Equal(t, 3., records[1]["changes_count"])
	require.Equal(t, records[0]["policy"], records[1]["policy"])
	require.Equal(t, []any{".envrc"}, records[2]["protect_violations"])
	require.NotContains(t, records[2], "changes", "which are not known")
}

// A record does not wait for the whole of a large overlay.
func TestAuditChangesTimeOut(t *testing.T) {
	patience := changesPatience
	changesPatience = time.Nanosecond
	t.Cleanup(func() { changesPatience = patience })
	f, lines := auditLog(t)
	o := overlayOn(t, t.TempDir())
	_, err := Run(t.Context(), Config{Audit: f, Overlay: o}, "echo > a")
	require.NoError(t, err)
	record := lines()[0]
	require.Contains(t, record["changes_error"], context.DeadlineExceeded.Error())
	require.NotContains(t, record, "changes")
}

func TestAuditPool(t *testing.T) {
	f, lines := auditLog(t)
	p, err := NewPool(Config{Audit: f}, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	_, err = p.Run(t.Context(), Lease{}, "exit 6")
	require.NoError(t, err)
	_, err = p.Run(t.Context(), Lease{Dir: "none"}, "true")
	require.Error(t, err)
	s, err := p.Session(t.Context(), Lease{})
	require.NoError(t, err)
	_, err = s.Exec(t.Context(), "true")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = Run(t.Context(), Config{Audit: f}, "true")
	require.NoError(t, err)
	records := lines()
	require.Len(t, records, 5, "the waiting ones are no runs")
	require.Equal(t, 6., records[0]["exit_code"])
	require.Equal(t, "ErrConfig", records[1]["error_class"])
	require.Equal(t, records[4]["policy"], records[0]["policy"], "a warm run is under the same rules as a cold one")
}

func TestAuditProcess(t *testing.T) {
	f, lines := auditLog(t)
	p, err := Start(t.Context(), Config{Audit: f}, "sh", "-c", "exit 4")
	require.NoError(t, err)
	for range 2 {
		_, err = p.Wait()
		require.NoError(t, err)
	}
	records := lines()
	require.Len(t, records, 1)
	require.Equal(t, []any{"sh", "-c", "exit 4"}, records[0]["argv"])
	require.Equal(t, 4., records[0]["exit_code"])
}

// The same rules have the same hash, others another.
func TestAuditPolicyHash(t *testing.T) {
	f, lines := auditLog(t)
	hash := func(c Config, command string) string {
		c.Audit = f
		_, err := Run(t.Context(), c, command)
		require.NoError(t, err)
		records := lines()
		return records[len(records)-1]["policy"].(string)
	}
	data := t.TempDir()
	first := hash(Config{}, "true")
	require.Equal(t, first, hash(Config{Stdin: strings.NewReader("x"), Env: map[string]string{"A": "b"}, Dir: "/tmp"}, "false"))
	require.Equal(t, first, hash(Config{Limits: Limits{Wall: DefaultWall, Pids: DefaultPids}}, "true"), "a default that is written out")
	require.Equal(t, hash(Config{Workspace: t.TempDir()}, "true"), hash(Config{Workspace: t.TempDir()}, "true"))
	others := map[string]string{first: "the zero Config"}
	for name, c := range map[string]Config{
		"limits": {Limits: Limits{Memory: 1 << 30}}, "wall": {Limits: Limits{Wall: time.Minute / 2}}, "output": {Limits: Limits{Output: 5}},
		"bind": {Binds: []Bind{{data, "/data", false}}}, "writable": {Binds: []Bind{{data, "/data", true}}}, "target": {Binds: []Bind{{data, "/datb", false}}},
		"workspace": {Workspace: t.TempDir()}, "stop": {StopAtOutput: true},
		"allow-list": {Net: NetAllowList}, "rules": {Net: NetAllowList, Allow: AllowList{Rules: []string{"example.com"}}}, "host": {Net: NetHost},
	} {
		h := hash(c, "true")
		require.Empty(t, others[h], "%s has the hash of another policy", name)
		others[h] = name
	}
}

type brokenHandler struct{ slog.Handler }

func (brokenHandler) Enabled(context.Context, slog.Level) bool  { return false }
func (brokenHandler) Handle(context.Context, slog.Record) error { return errors.New("no room") }

func TestAuditHandlerFails(t *testing.T) {
	r, err := Run(t.Context(), Config{Audit: brokenHandler{}}, "echo done")
	var failed *ErrAudit
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "done\n", string(r.Stdout), "the result is complete")
	s, err := NewSession(t.Context(), Config{Audit: brokenHandler{}})
	require.NoError(t, err)
	_, err = s.Exec(t.Context(), "true")
	require.ErrorAs(t, err, &failed)
	require.ErrorAs(t, s.Close(), &failed)
}
