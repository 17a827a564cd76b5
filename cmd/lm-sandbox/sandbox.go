package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// sandboxFlags describe a sandbox; 'bash' and 'serve' have them.
type sandboxFlags struct {
	workspace, root, dir, helper string
	binds                        bindList
	env                          envMap
	wall, cpu                    time.Duration
	mem, disk, output            byteSize
	pids, files                  int
	stopAtOutput                 bool
}

func (f *sandboxFlags) register(fs *pflag.FlagSet) {
	f.mem, f.disk, f.output = sandbox.DefaultMemory, sandbox.DefaultDisk, sandbox.DefaultOutput
	f.env = envMap{}
	fs.StringVar(&f.workspace, "workspace", "", "`directory` of the host to have at /workspace, read-write (default an empty one that dies with the sandbox)")
	fs.StringVar(&f.dir, "dir", "", "`directory` inside to start in (default /workspace)")
	fs.Var(f.env, "env", "variable to set inside, `NAME=VALUE`; may be given more than once")
	fs.Var(&f.binds, "bind", "further path of the host to have inside, `SOURCE:TARGET[:rw]`, read-only unless rw; may be given more than once")
	fs.StringVar(&f.root, "root", "", "`directory` with a root tree to use, read-only (default the host's system directories)")
	fs.DurationVar(&f.wall, "timeout", sandbox.DefaultWall, "time until everything is killed")
	fs.DurationVar(&f.cpu, "cpu", sandbox.DefaultCPU, "processor time of each process")
	fs.Var(&f.mem, "mem", "memory of all processes")
	fs.Var(&f.disk, "disk", "what may be written outside of --workspace, and the size of any one file")
	fs.IntVar(&f.pids, "pids", sandbox.DefaultPids, "processes and threads")
	fs.IntVar(&f.files, "files", sandbox.DefaultFiles, "open files of each process")
	fs.Var(&f.output, "output", "bytes of stdout, and of stderr, in a JSON answer; the rest is dropped")
	fs.BoolVar(&f.stopAtOutput, "stop-at-output", false, "end the command where --output is exceeded")
	fs.StringVar(&f.helper, "helper", "", "`path` of an installed sandbox helper, where AppArmor allows namespaces to named programs only")
}

// config is the sandbox that the flags describe.
func (f *sandboxFlags) config() sandbox.Config {
	return sandbox.Config{
		Root: f.root, Workspace: f.workspace, Binds: f.binds, Env: f.env, Dir: f.dir, HelperPath: f.helper,
		Limits: sandbox.Limits{
			Wall: f.wall, CPU: f.cpu, Memory: int64(f.mem), Pids: f.pids,
			Disk: int64(f.disk), Files: f.files, Output: int64(f.output),
		},
		StopAtOutput: f.stopAtOutput,
	}
}

// configFlags are the flags by the field of sandbox.Config that they set.
var configFlags = map[string]string{
	"Root": "root", "Workspace": "workspace", "Binds": "bind", "Env": "env", "Dir": "dir", "HelperPath": "helper",
	"Limits.Wall": "timeout", "Limits.CPU": "cpu", "Limits.Memory": "mem", "Limits.Pids": "pids",
	"Limits.Disk": "disk", "Limits.Files": "files", "Limits.Output": "output", "command": "command",
}

// sandboxFailure sorts the errors of the sandbox: what a flag said, an output that cannot
// be written, or a host that refuses.
func sandboxFailure(err error) error {
	var config *sandbox.ErrConfig
	var stream *sandbox.ErrStream
	switch {
	case errors.As(err, &config):
		field, _, _ := strings.Cut(config.Field, "[")
		return usage(err, "check --%s", configFlags[field])
	case errors.As(err, &stream):
		return err
	}
	return &failure{code: exitSandbox, err: err}
}

// bindList is a flag value: SOURCE:TARGET, read-only, or SOURCE:TARGET:rw.
type bindList []sandbox.Bind

// Set adds one bind.
func (l *bindList) Set(s string) error {
	parts := strings.Split(s, ":")
	writable := len(parts) == 3 && parts[2] == "rw"
	if len(parts) != 2 && !writable {
		return fmt.Errorf("%q is not SOURCE:TARGET or SOURCE:TARGET:rw", s)
	}
	*l = append(*l, sandbox.Bind{Source: parts[0], Target: parts[1], Writable: writable})
	return nil
}

func (l *bindList) String() string { return "" }

// Type names the value in help texts.
func (l *bindList) Type() string { return "bind" }

// envMap is a flag value: NAME=VALUE.
type envMap map[string]string

// Set sets one variable.
func (m envMap) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not NAME=VALUE", s)
	}
	m[name] = value
	return nil
}

func (m envMap) String() string { return "" }

// Type names the value in help texts.
func (m envMap) Type() string { return "variable" }
