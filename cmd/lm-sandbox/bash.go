package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// bashFlags are the flags of 'bash'.
type bashFlags struct {
	command string
	asJSON  bool
	diff    bool
	sandbox sandboxFlags
}

func newBash(std stdio) *cobra.Command {
	var f bashFlags
	cmd := &cobra.Command{
		Use:   "bash [-c COMMAND]",
		Short: "run a bash command, or a shell, in a sandbox",
		Long: `Run a bash command in a sandbox of its own: no network, no capability, the
host's system directories read-only and nothing else of the host. When it ends,
everything that it started is dead and everything that it wrote is gone, except
in the directory of --workspace.

Without -c, on a terminal, it is an interactive shell with a terminal of the
sandbox's own, and --timeout has no default. What runs in it writes to your
terminal as it likes. Where stdin is no terminal, commands are read from it.

stdin, stdout, stderr and the exit code are the command's: 128+n where signal n
ended it. A limit that ended it is named on stderr. The exit code is 125 where the
sandbox could not run it or its --audit record could not be written, and 2 where the flags are wrong; a command may give these
too, and --json tells them apart: for a command that was run there is an object.
Sizes are bytes, or numbers with K, M, G or T, of 1024.

With --json stdout gets one object at the end, or nothing where the command could
not be run or was interrupted: exit_code, signal (its name or ""), stdout, stderr, stdout_truncated,
stderr_truncated, limit ("", timeout, cpu, memory, pids, disk, output or files),
level, lacks, duration_ms, usage, and where there are any net (what was asked of the
proxy), protect_violations (paths of --protect that are not what they were) and
changes (of --diff). In stdout and stderr each byte that is not UTF-8 becomes
U+FFFD.`,
		Example: `  lm-sandbox bash -c 'id; ls /'
  lm-sandbox bash --workspace . --timeout 10m --mem 512M -c 'make test'
  echo 'print(6*7)' | lm-sandbox bash --json -c python3
  lm-sandbox bash --workspace .
  lm-sandbox bash <script.sh`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			terminal, _ := std.in.(*os.File)
			switch {
			case cmd.Flags().Changed("command"):
				return f.run(cmd.Context(), std, func(ctx context.Context, c sandbox.Config) (sandbox.Result, error) {
					return sandbox.Run(ctx, c, f.command)
				})
			case !isTerminal(terminal):
				return f.run(cmd.Context(), std, runScript)
			case f.asJSON:
				return usage(errors.New("--json is for a command, and none was given"), "lm-sandbox bash --json -c 'COMMAND'")
			}
			if !cmd.Flags().Changed("timeout") {
				f.sandbox.wall = 0
			}
			return f.interact(cmd.Context(), std, terminal)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.command, "command", "c", "", "the `command`")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object at the end")
	fs.BoolVar(&f.diff, "diff", false, "leave the workspace as it is, and list on stderr what would have changed")
	f.sandbox.register(fs)
	return cmd
}

// runScript lets bash read its commands from stdin.
func runScript(ctx context.Context, c sandbox.Config) (sandbox.Result, error) {
	p, err := sandbox.Start(ctx, c, "/bin/bash")
	if err != nil {
		return sandbox.Result{}, err
	}
	return p.Wait()
}

func (f *bashFlags) run(ctx context.Context, std stdio, execute func(context.Context, sandbox.Config) (sandbox.Result, error)) (err error) {
	config, closeAll, err := f.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	config.Stdin = std.in
	if !f.asJSON {
		config.Stdout, config.Stderr = std.out, std.err
	}
	result, err := execute(ctx, config)
	if err != nil {
		return sandboxFailure(err)
	}
	changed, err := changes(ctx, config)
	if err != nil {
		return err
	}
	if f.asJSON {
		object := newBashResult(result)
		object.Changes = changed
		if err := writeJSON(std.out, object); err != nil {
			return err
		}
	} else if err := errors.Join(writeViolations(std.err, result.ProtectViolations), writeChanges(std.err, changed)); err != nil {
		return err
	} else if result.Limit != sandbox.LimitNone {
		return &failure{code: result.ExitCode, err: fmt.Errorf("the command reached a limit: %s", result.Limit)}
	}
	if result.ExitCode == 0 {
		return nil
	}
	return &failure{code: result.ExitCode}
}

// bashResult is what 'bash --json' prints.
type bashResult struct {
	ExitCode        int               `json:"exit_code"`
	Signal          string            `json:"signal"`
	Stdout          string            `json:"stdout"`
	Stderr          string            `json:"stderr"`
	StdoutTruncated bool              `json:"stdout_truncated"`
	StderrTruncated bool              `json:"stderr_truncated"`
	Limit           sandbox.LimitKind `json:"limit"`
	Level           sandbox.Level     `json:"level"`
	Lacks           []string          `json:"lacks"`
	DurationMS      float64           `json:"duration_ms"`
	Usage           bashUsage         `json:"usage"`
	Net             []bashNet         `json:"net,omitempty"`
	Violations      []string          `json:"protect_violations,omitempty"`
	Changes         []change          `json:"changes,omitempty"`
}

// bashUsage is what the command used; 0 is unknown.
type bashUsage struct {
	CPUMS      float64 `json:"cpu_ms"`
	MemoryPeak int64   `json:"memory_peak"`
	PidsPeak   int64   `json:"pids_peak"`
	ReadBytes  int64   `json:"read_bytes"`
	WriteBytes int64   `json:"write_bytes"`
}

// bashNet is one decision of the proxy.
type bashNet struct {
	Host    string `json:"host"`
	Port    uint16 `json:"port"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitempty"`
	Up      int64  `json:"up"`
	Down    int64  `json:"down"`
}

func newBashResult(r sandbox.Result) bashResult {
	var net []bashNet
	for _, n := range r.Net {
		net = append(net, bashNet{n.Host, n.Port, n.Allowed, n.Reason, n.Up, n.Down})
	}
	u := r.Usage
	return bashResult{
		ExitCode: r.ExitCode, Signal: r.Signal, Stdout: string(r.Stdout), Stderr: string(r.Stderr),
		StdoutTruncated: r.StdoutTruncated, StderrTruncated: r.StderrTruncated,
		Limit: r.Limit, Level: r.Level, Lacks: append([]string{}, r.Lacks...), DurationMS: milliseconds(r.Duration), Net: net,
		Violations: r.ProtectViolations,
		Usage:      bashUsage{milliseconds(u.CPU), u.MemoryPeak, u.PidsPeak, u.ReadBytes, u.WriteBytes},
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
