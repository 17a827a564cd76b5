package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// agentFlags are the flags of 'agent'.
type agentFlags struct {
	engine     engineFlags
	sampling   samplingFlags
	task       string
	steps      int
	tokens     int
	timeout    time.Duration
	approve    string
	workspace  string
	helper     string
	audit      string
	system     string
	noExamples bool
	asJSON     bool
	eval       bool
}

func newAgent(std stdio) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent [TASK...]",
		Short: "let the model do a task with bash in a sandbox",
		Long: `Let the model do a task with bash in a sandbox: it writes a command, which a
grammar holds to its form, sees what came of it, and goes on until it answers or a
limit is reached. All commands of a task run in one shell, without network; what
they write is gone at the end, except in the directory of --workspace.

The task is what -p says, then the arguments, then stdin, as for 'run'. The answer
goes to stdout; the commands and their output go to stderr. With --json stdout gets
one JSON object for each event, on a line of its own: its "type" is text, call,
result or done.

--approve ask asks at the terminal before each command; none refuses all, and so
shows what the model would do.

--eval does 20 tasks instead, checks each by the files it left, its answer and an
exit code, and prints how many were done; with --json there is an object of the type
task for each, and one of the type rate. The default model is a very small one.`,
		Example: `  lm-sandbox agent --workspace logs -p 'Print the last line of log.txt.'
  lm-sandbox agent --approve ask -m hf:Qwen/Qwen2.5-7B-Instruct-GGUF:Q4_K_M 'Which process uses most memory?'
  lm-sandbox agent --eval`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), std, args) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.task, "prompt", "p", "", "`text` of the task, or its first part")
	fs.IntVar(&f.steps, "steps", 16, "most `answers` of the model, commands included")
	fs.IntVar(&f.tokens, "tokens", 2048, "most `tokens` that the model writes, in all steps together")
	fs.DurationVar(&f.timeout, "timeout", 5*time.Minute, "`duration` of everything")
	fs.StringVar(&f.approve, "approve", "all", "which commands are run: `ask, all or none`")
	fs.StringVar(&f.workspace, "workspace", "", "host `directory` at /workspace, read-write (default an empty one, gone at the end)")
	fs.StringVar(&f.system, "system", "", "`text` of the system message, instead of the agent's own")
	fs.BoolVar(&f.noExamples, "no-examples", false, "do not show the model examples first: large ones need none")
	fs.BoolVar(&f.asJSON, "json", false, "print the events as JSON, one in a line")
	fs.BoolVar(&f.eval, "eval", false, "do 20 tasks and print how many were done")
	registerAudit(fs, &f.audit)
	fs.StringVar(&f.helper, "helper", "", "`path` of an installed sandbox helper, for hosts whose AppArmor wants one")
	f.sampling.register(fs)
	fs.Lookup("temp").DefValue = "0"
	f.sampling.params.Temperature = 0
	f.engine.register(fs)
	return cmd
}

func (f *agentFlags) run(ctx context.Context, std stdio, args []string) (err error) {
	for name, value := range map[string]int{"steps": f.steps, "tokens": f.tokens, "timeout": int(f.timeout)} {
		if value < 0 {
			return usage(fmt.Errorf("--%s %d is negative", name, value), "see 'lm-sandbox agent --help'")
		}
	}
	approve, err := f.approval(std)
	if err != nil {
		return err
	}
	task := ""
	switch {
	case !f.eval:
		if task, err = promptText(ctx, f.task, args, std.in); err != nil {
			return err
		}
	case f.task != "" || len(args) > 0 || f.workspace != "":
		return usage(errors.New("--eval has tasks and workspaces of its own"), "leave out the task and --workspace")
	}
	e, m, err := f.engine.open(ctx, std, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	records, closeAudit, err := openAudit(f.audit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	if !e.HasChatTemplate() {
		return &failure{code: exitModel, err: fmt.Errorf("%s: %w", m.Name, llama.ErrNoChatTemplate), hint: "choose another model with -m"}
	}
	config := agent.Config{
		Engine: e, Sandbox: sandbox.Config{Workspace: f.workspace, HelperPath: f.helper, Audit: records}, Approve: approve,
		MaxSteps: f.steps, MaxTokens: f.tokens, Wall: f.timeout, System: f.system, Sampling: &f.sampling.params,
	}
	if f.noExamples {
		config.Examples = []agent.Example{}
	}
	if f.eval {
		return f.evaluate(ctx, std, config, m.Name)
	}
	show := showEvents
	if f.asJSON {
		show = writeEvents
	}
	if err := show(std, agent.Run(ctx, config, task)); err != nil {
		return agentFailure(err)
	}
	return nil
}

// agentFailure sorts the errors of a run.
func agentFailure(err error) error {
	var invalid *agent.ErrInvalid
	var limit *agent.ErrLimit
	var exited *sandbox.ErrShellExited
	switch {
	case errors.As(err, &invalid):
		return usage(err, "see 'lm-sandbox agent --help'")
	case errors.As(err, &limit):
		hint := map[agent.LimitKind]string{
			agent.LimitSteps: "--steps allows more", agent.LimitTokens: "--tokens allows more",
			agent.LimitWall: "--timeout allows more", agent.LimitContext: "--ctx-size makes it larger, where the model was trained for it",
		}[limit.Limit]
		return &failure{code: exitFailure, err: err, hint: hint}
	case errors.As(err, &exited):
		return &failure{code: exitFailure, err: err}
	case fromSandbox(err):
		return sandboxFailure(err)
	}
	return requestFailure(err)
}

// fromSandbox reports whether err says that there is no sandbox.
func fromSandbox(err error) bool {
	var config *sandbox.ErrConfig
	var user *sandbox.ErrUserNamespace
	var owner *sandbox.ErrOwner
	var level *sandbox.ErrLevel
	var setup *sandbox.ErrSetup
	var exec *sandbox.ErrExec
	return errors.As(err, &config) || errors.As(err, &user) || errors.As(err, &owner) || errors.As(err, &level) ||
		errors.As(err, &setup) || errors.As(err, &exec) || errors.As(err, new(*sandbox.ErrAudit)) || errors.Is(err, sandbox.ErrUnsupported)
}
