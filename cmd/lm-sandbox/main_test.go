package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestMain lets the scripts run this test binary as the command "lm-sandbox", and
// fails the run when a test in this process leaves a goroutine behind.
func TestMain(m *testing.M) {
	engine.RunWorker()
	testscript.Main(leakChecked{m}, map[string]func(){"lm-sandbox": func() {
		onTestMachine()
		main()
	}})
}

// leakChecked is the run in this process; the commands of the scripts do not pass here.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	for name, value := range map[string]string{
		"GORACE":           "atexit_sleep_ms=10", // else each process lingers for a second at its end
		"OMP_WAIT_POLICY":  "passive",            // scripts share the cores: waiting threads must not spin
		"LM_SANDBOX_MODEL": "",                   // the tests know what the default model says
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = fmt.Fprintf(os.Stderr, "goleak: %v\n", err)
		return 1
	}
	return code
}

// TestScripts runs testdata/*.txtar, named by subcommand. They use the real model
// from the cache that all tests share, and the real sandbox.
func TestScripts(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("the scripts need the cache directory: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                scriptCommands,
		Setup: func(env *testscript.Env) error {
			env.Values[serviceKey{}] = new(service)
			env.Setenv("XDG_CACHE_HOME", cache)
			for _, name := range []string{"GORACE", "OMP_WAIT_POLICY"} {
				env.Setenv(name, os.Getenv(name))
			}
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o755)
		},
	})
}
