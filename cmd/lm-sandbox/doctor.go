package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
	"github.com/spf13/cobra"
)

// The states of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn" // something is missing that can be done without
	checkFail = "fail" // what needs it does not work
)

// check is one thing that doctor looked at.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do where Status is not ok
	// Lacks is what a level of the sandbox has less than the one above.
	Lacks []string `json:"lacks,omitempty"`

	code int // exit code where Status is fail
}

// diagnosis is what 'doctor --json' prints.
type diagnosis struct {
	OK     bool    `json:"ok"` // no check failed
	Checks []check `json:"checks"`
}

func newDoctor(std stdio) *cobra.Command {
	var asJSON bool
	var install string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "tell what this machine allows, and what to do about the rest",
		Long: `Tell what this machine allows: the processor, the llama.cpp library, the GPU or
why there is none, the model, and what the sandbox is built on; a command is run in
one of each level. A warning is something that can be done without. The exit code is
0 unless a check fails: then it is 3 (processor, llama.cpp) or 125 (sandbox).

--install-helper installs the sandbox's helper, and where the host has AppArmor a
profile that lets it make user namespaces, and does nothing else.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if install != "" {
				return installHelper(std.out, install, "/etc/apparmor.d")
			}
			return doctor(cmd.Context(), std, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&install, "install-helper", "", "install the sandbox's helper at this `path`")
	cmd.Flags().Lookup("install-helper").NoOptDefVal = sandbox.DefaultHelperPath
	return cmd
}

func doctor(ctx context.Context, std stdio, asJSON bool) error {
	host := os.DirFS("/")
	d := diagnosis{OK: true}
	processor := checkProcessor(host)
	d.Checks = append(d.Checks, processor)
	if processor.Status != checkFail { // the library would be killed by its first instruction
		d.Checks = append(d.Checks, checkLlama(), checkGPU(gpus.inspect()))
	}
	d.Checks = append(d.Checks, checkModel())
	d.Checks = append(d.Checks, checkSandbox(ctx)...)
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed error
	for _, c := range d.Checks {
		if c.Status == checkFail && d.OK {
			d.OK = false
			failed = &failure{code: c.code, err: fmt.Errorf("not usable: %s", c.Name), hint: c.Remedy}
		}
	}
	var err error
	if asJSON {
		err = writeJSON(std.out, d)
	} else {
		err = writeChecks(std.out, d.Checks)
	}
	if err != nil {
		return err
	}
	return failed
}

// writeChecks writes a table, each remedy below its check.
func writeChecks(w io.Writer, checks []check) error {
	var b strings.Builder
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", c.Status, width, c.Name, c.Detail)
		for _, l := range c.Lacks {
			fmt.Fprintf(&b, "      %-*s  %s\n", width, "", "lacks "+l)
		}
		if c.Remedy != "" {
			fmt.Fprintf(&b, "      %-*s  %s\n", width, "", "remedy: "+c.Remedy)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
