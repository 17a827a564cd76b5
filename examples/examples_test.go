// Package examples builds and runs the programs beside it.
package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runExample builds ./name and returns what it prints on stdout.
func runExample(t *testing.T, name string, args ...string) string {
	t.Helper()
	return runExampleOn(t, "", name, args...)
}

// runExampleOn is runExample with a text on stdin.
func runExampleOn(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", binary, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary, args...)
	// The default model, whose answers are known; threads that wait must not spin, since
	// other packages' tests want the cores too.
	cmd.Env = append(os.Environ(), "LM_SANDBOX_MODEL=", "OMP_WAIT_POLICY=passive")
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\nstdout: %s\nstderr: %s", err, &stdout, &stderr)
	}
	return stdout.String()
}

func TestHello(t *testing.T) {
	out := runExample(t, "hello", "What is the capital of France,", "and what is it known for?")
	question, answer, _ := strings.Cut(out, "\n")
	if question != "> What is the capital of France, and what is it known for?" || !strings.HasPrefix(answer, "The capital of France is Paris.") {
		t.Errorf("it printed %q", out)
	}
}

func TestJSON(t *testing.T) {
	want := "{Name:Emmy Noether Born:1882 Birthplace:Erlangen}\nborn 118 years before 2000\n"
	if out := runExample(t, "json"); out != want {
		t.Errorf("it printed %q", out)
	}
	// Whatever the model makes of it, it is a person.
	if out := runExample(t, "json", "}", "no sentence at all", "{"); !strings.HasPrefix(out, "{Name:") {
		t.Errorf("it printed %q", out)
	}
}

func TestTools(t *testing.T) {
	call, answer, _ := strings.Cut(runExample(t, "tools"), "\n")
	if call != `count_letters("strawberry") = 10` || !strings.Contains(answer, "10") {
		t.Errorf("it printed %q and %q", call, answer)
	}
	call, _, _ = strings.Cut(runExample(t, "tools", "Reverse the word sandbox"), "\n")
	if call != `reverse("sandbox") = xobdnas` {
		t.Errorf("it printed %q", call)
	}
}

func TestSandbox(t *testing.T) {
	out := runExample(t, "sandbox")
	for _, want := range []string{
		"  42\n  hello\n",
		"CapEff:\t0000000000000000",
		"NoNewPrivs:\t1",
		"Seccomp:\t2",
		"/etc/shadow: ",
		"Network is unreachable",
		"'/usr/bin/planted': Read-only file system",
		"stopped, limit: timeout",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestChat(t *testing.T) {
	out := runExampleOn(t, "What is the capital of France, and what is it known for?\nThank you.\n", "chat")
	answers := strings.Split(out, "\n> ")
	if len(answers) != 3 || !strings.HasPrefix(answers[0], "> The capital of France is Paris") || answers[1] == "" || answers[2] != "" {
		t.Errorf("it printed %q", out)
	}
}

func TestAgent(t *testing.T) {
	workspace := t.TempDir()
	if err := os.WriteFile(filepath.Join(workspace, "log.txt"), []byte("Clara Winter\nHugo Fields\nEmma Baker\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := runExample(t, "agent", workspace, "Print the last line of log.txt.")
	call, answer, _ := strings.Cut(out, "\nEmma Baker\n> ")
	if call != `calls bash {"command":"tail -n 1 log.txt"}` || !strings.Contains(answer, "Emma Baker") {
		t.Errorf("it printed %q", out)
	}
}
