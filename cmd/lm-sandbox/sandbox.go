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
	devices                      []string
	least                        leastLevel
	audit                        string
	allow, protect               []string
	hostNet                      netFlag
	cpus                         float64
	readRate, writeRate          byteSize
	growth                       byteSize
	newFiles                     int64
}

func (f *sandboxFlags) register(fs *pflag.FlagSet) {
	f.mem, f.disk, f.output = sandbox.DefaultMemory, sandbox.DefaultDisk, sandbox.DefaultOutput
	f.env = envMap{}
	fs.StringVar(&f.workspace, "workspace", "", "host `directory` at /workspace, read-write (default an empty one, gone at the end)")
	fs.StringVar(&f.dir, "dir", "", "`directory` inside to start in (default /workspace)")
	fs.Var(f.env, "env", "`NAME=VALUE` for the environment inside; may be given again")
	fs.Var(&f.binds, "bind", "`SOURCE:TARGET[:rw]`, a host path to have inside, read-only unless rw; may be given again")
	fs.StringVar(&f.root, "root", "", "host `directory` with a root tree, used read-only (default the host's system directories)")
	fs.DurationVar(&f.wall, "timeout", sandbox.DefaultWall, "`duration` after which everything is killed")
	fs.DurationVar(&f.cpu, "cpu", sandbox.DefaultCPU, "processor time of each process")
	fs.Var(&f.mem, "mem", "memory of all processes together")
	fs.Var(&f.disk, "disk", "what is written outside of --workspace, and each file")
	fs.IntVar(&f.pids, "pids", sandbox.DefaultPids, "`number` of processes and threads")
	fs.IntVar(&f.files, "files", sandbox.DefaultFiles, "`number` of open files of each process")
	fs.Var(&f.output, "output", "what is kept of stdout, and of stderr, for JSON")
	fs.BoolVar(&f.stopAtOutput, "stop-at-output", false, "end the command once it writes more than --output")
	fs.Var(&f.growth, "workspace-bytes", "how much the workspace may grow (default no bound)")
	fs.Int64Var(&f.newFiles, "workspace-files", 0, "by how many `files` the workspace may grow (default no bound)")
	fs.Float64Var(&f.cpus, "cpus", 0, "`number` of processors that it may use at once, 0.5 for example; needs the level cgroup")
	fs.Var(&f.readRate, "read-rate", "bytes a second from each disk; needs the level cgroup")
	fs.Var(&f.writeRate, "write-rate", "bytes a second to each disk; needs the level cgroup")
	fs.StringArrayVar(&f.allow, "allow", nil, "`HOST[:PORT]` that it may reach through a proxy (docs/network.md); may be given again")
	fs.Var(&f.hostNet, "net", "none, or host for the host's own network with nothing between")
	fs.StringArrayVar(&f.protect, "protect", nil, "`path` below the workspace to keep read-only, or default for hooks and start-up files; may be given again")
	fs.StringArrayVar(&f.devices, "device", nil, "`node` of a GPU to have inside, or nvidia for all that CUDA needs; may be given again")
	f.least.level = sandbox.LevelNamespaces
	fs.Var(&f.least, "min-level", f.least.usage())
	registerAudit(fs, &f.audit)
	fs.StringVar(&f.helper, "helper", "", "`path` of an installed sandbox helper, for hosts whose AppArmor wants one")
}

// config is the sandbox that the flags describe, less the file of its records.
func (f *sandboxFlags) config() sandbox.Config {
	return sandbox.Config{
		Devices: expandDevices(f.devices), MinLevel: f.least.level, Net: f.net(), Allow: sandbox.AllowList{Rules: f.allow},
		Protect: expandProtect(f.protect),
		Root:    f.root, Workspace: f.workspace, Binds: f.binds, Env: f.env, Dir: f.dir, HelperPath: f.helper,
		Limits: sandbox.Limits{
			Wall: f.wall, CPU: f.cpu, Memory: int64(f.mem), Pids: f.pids,
			Disk: int64(f.disk), Files: f.files, Output: int64(f.output),
			CPUs: f.cpus, ReadRate: int64(f.readRate), WriteRate: int64(f.writeRate), Workspace: int64(f.growth), WorkspaceFiles: f.newFiles,
		},
		StopAtOutput: f.stopAtOutput,
	}
}

// open is the same with the file of records, which is closed by what it returns too.
func (f *sandboxFlags) open() (sandbox.Config, func() error, error) {
	c := f.config()
	handler, closeFile, err := openAudit(f.audit)
	c.Audit = handler
	return c, closeFile, err
}

// net is the network that the flags ask for.
func (f *sandboxFlags) net() sandbox.Net {
	switch {
	case bool(f.hostNet):
		return sandbox.NetHost
	case len(f.allow) > 0:
		return sandbox.NetAllowList
	}
	return sandbox.NetNone
}

// expandProtect puts the paths that programs trust in the place of the word default.
func expandProtect(names []string) []string {
	var paths []string
	for _, name := range names {
		if name == "default" {
			paths = append(paths, sandbox.DefaultProtect()...)
		} else {
			paths = append(paths, name)
		}
	}
	return paths
}

// expandDevices puts the nodes of the host in the place of the word nvidia.
func expandDevices(names []string) []string {
	var nodes []string
	for _, name := range names {
		if name != "nvidia" {
			nodes = append(nodes, name)
			continue
		}
		gpus := sandbox.GPUDevices()
		if len(gpus) == 0 { // the error about it says what to do
			gpus = []string{"/dev/nvidiactl"}
		}
		nodes = append(nodes, gpus...)
	}
	return nodes
}

// configFlags are the flags by the field of sandbox.Config that they set.
var configFlags = map[string]string{
	"Root": "root", "Workspace": "workspace", "Binds": "bind", "Env": "env", "Dir": "dir", "HelperPath": "helper",
	"Limits.Wall": "timeout", "Limits.CPU": "cpu", "Limits.Memory": "mem", "Limits.Pids": "pids",
	"Limits.Disk": "disk", "Limits.Files": "files", "Limits.Output": "output", "command": "command",
	"Limits.Workspace": "workspace-bytes", "Limits.WorkspaceFiles": "workspace-files", "Limits.CPUs": "cpus", "Limits.ReadRate": "read-rate", "Limits.WriteRate": "write-rate", "Net": "net", "Allow.Rules": "allow", "Allow": "allow",
	"Protect": "protect", "Devices": "device", "MinLevel": "min-level", "Audit": "audit",
}

// sandboxFailure sorts the errors of the sandbox: what a flag said, an output that cannot
// be written, or a host that refuses.
func sandboxFailure(err error) error {
	var config *sandbox.ErrConfig
	var stream *sandbox.ErrStream
	switch {
	case errors.As(err, &config):
		field, _, _ := strings.Cut(config.Field, "[")
		flag, known := configFlags[field]
		if !known {
			flag = configFlags[strings.SplitN(field, ".", 2)[0]]
		}
		return usage(err, "check --%s", flag)
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

// netFlag is a flag value: none, or host.
type netFlag bool

// Set takes one of the two.
func (n *netFlag) Set(s string) error {
	if s != "none" && s != "host" {
		return fmt.Errorf("%q is neither none nor host; --allow names what may be reached", s)
	}
	*n = s == "host"
	return nil
}

func (n *netFlag) String() string {
	if *n {
		return "host"
	}
	return "none"
}

// Type names the value in help texts.
func (n *netFlag) Type() string { return "network" }
