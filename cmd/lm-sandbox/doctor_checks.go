package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// checkProcessor compares what the portable build of llama.cpp needs with what the
// processor has.
func checkProcessor(host fs.FS) check {
	c := check{Name: "processor", Status: checkOK, code: exitModel}
	needed := llamacpp.CPUFlags(runtime.GOARCH)
	if len(needed) == 0 {
		c.Detail = runtime.GOARCH
		return c
	}
	info, err := fs.ReadFile(host, "proc/cpuinfo")
	if err != nil {
		c.Status, c.Detail, c.Remedy = checkWarn, err.Error(), "mount /proc"
		return c
	}
	var has []string
	for line := range strings.Lines(string(info)) {
		if name, flags, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "flags" {
			has = strings.Fields(flags)
			break
		}
	}
	missing := slices.DeleteFunc(slices.Clone(needed), func(flag string) bool { return slices.Contains(has, flag) })
	if len(missing) > 0 {
		c.Status, c.Detail = checkFail, "it lacks "+strings.Join(missing, " ")
		c.Remedy = "build for this machine: LLAMA_NATIVE=1 make build"
		return c
	}
	c.Detail = "it has " + strings.Join(needed, " ")
	return c
}

// checkLlama looks at the library that is linked.
func checkLlama() check {
	c := check{Name: "llama.cpp", Status: checkOK, code: exitModel}
	s, err := llama.SystemInfo()
	if err != nil {
		c.Status, c.Detail, c.Remedy = checkFail, err.Error(), "build it again: make build"
		return c
	}
	c.Detail = fmt.Sprintf("%s, tree %.12s, %d threads; built for %s", s.Version, s.Tree, s.NThreads, strings.TrimRight(s.Features, " |"))
	return c
}

// checkModel looks for the model that is used unless -m names another.
func checkModel() check {
	c := check{Name: "model", Status: checkOK}
	ref := cmp.Or(os.Getenv("LM_SANDBOX_MODEL"), "default")
	if st, err := os.Stat(ref); err == nil && st.Mode().IsRegular() {
		c.Detail = ref
		return c
	}
	models, err := hub.List(hub.Options{})
	for _, m := range models {
		if m.Ref == ref {
			c.Detail = m.Path
			return c
		}
	}
	c.Status, c.Detail, c.Remedy = checkWarn, ref+" is not here yet; its first use downloads it", "lm-sandbox model pull "+ref
	if err != nil { // of another model, or this one's
		c.Detail += "; " + err.Error()
	}
	return c
}

// checkSandbox runs a command and reports what the sandbox is built on.
func checkSandbox(ctx context.Context) []check {
	report, err := sandbox.Probe(ctx)
	var checks []check
	add := func(c check, ok bool) {
		c.Status = checkOK
		if !ok {
			c.Status = checkWarn
		}
		checks = append(checks, c)
	}
	for _, f := range report.Features {
		add(check{Name: f.Name, Detail: f.Detail, Remedy: f.Remedy}, f.OK)
	}
	for _, l := range report.Levels {
		add(check{Name: "level " + l.Level.String(), Detail: l.Detail, Remedy: l.Remedy, Lacks: l.Lacks}, l.OK)
	}
	if err != nil && len(checks) > 0 {
		checks[0].Status, checks[0].code = checkFail, exitSandbox
	}
	return checks
}
