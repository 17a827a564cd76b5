package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
)

func probe(ctx context.Context) (Report, error) {
	// What the command sees of itself, not what was asked for. There may be no /proc.
	const look = `cat /proc/self/status; readlink /proc/self/ns/{user,mnt,pid,net,ipc,uts,cgroup,time}; true`
	res, err := Run(ctx, Config{}, look)
	if err == nil && res.ExitCode != 0 {
		err = &ErrSetup{"run a command", strings.TrimSpace(string(res.Stderr)), fmt.Errorf("exit code %d", res.ExitCode)}
	}
	r := Report{Levels: probeLevels(ctx)}
	for _, l := range r.Levels {
		if l.OK {
			r.Level = max(r.Level, l.Level)
		}
	}
	run := Feature{Name: "sandbox", OK: err == nil, Detail: fmt.Sprintf("a command ran in %d ms", res.Duration.Milliseconds())}
	if err != nil {
		run.Detail, run.Remedy = err.Error(), remedyOf(err)
	}
	r.Features = append([]Feature{run}, observed(string(res.Stdout), err)...)
	r.Features = append(r.Features, idmap(ctx), landlock(), controlGroup())
	for i := range r.Features {
		f := &r.Features[i]
		if !f.OK && f.Remedy == "" {
			f.Remedy = "see sandbox"
		}
	}
	return r, err
}

// probeLevels runs a command at each level.
func probeLevels(ctx context.Context) []LevelReport {
	var out []LevelReport
	for _, level := range []Level{LevelCgroup, LevelNamespaces, LevelLandlock} {
		p, err := executeAt(ctx, Config{MinLevel: level}, min(level, LevelNamespaces), "/bin/true", []string{"true"}, false)
		var r Result
		if err == nil {
			r, err = p.wait()
		}
		l := LevelReport{Level: level, OK: err == nil, Lacks: r.Lacks, Detail: fmt.Sprintf("a command ran in %d ms", r.Duration.Milliseconds())}
		if level == LevelNamespaces {
			l.Lacks = append([]string{groupLack}, l.Lacks...)
		}
		if err != nil {
			l.Detail, l.Remedy = err.Error(), remedyOf(err)
		}
		out = append(out, l)
	}
	return out
}

// observed is what the command saw of itself.
func observed(out string, err error) []Feature {
	if err == nil && !strings.Contains(out, "CapEff:") {
		return []Feature{{Name: "namespaces", OK: true, Detail: "there is no /proc to see them in"}}
	}
	return []Feature{
		namespaces(out, err),
		{"no capabilities", strings.Contains(out, "CapEff:\t0000000000000000"), "every set is empty", ""},
		{"no_new_privs", strings.Contains(out, "NoNewPrivs:\t1"), "set-user-id programs gain nothing", ""},
		{"seccomp", strings.Contains(out, "Seccomp:\t2"), "system call filter", ""},
	}
}

func remedyOf(err error) string {
	var level *ErrLevel
	var ns *ErrUserNamespace
	var owner *ErrOwner
	switch {
	case errors.As(err, &level):
		return level.Remedy
	case errors.As(err, &ns):
		return ns.Remedy
	case errors.As(err, &owner):
		return owner.Remedy
	}
	return "report it with the output of 'lm-sandbox doctor --json'"
}

// namespaces compares the command's with the caller's.
func namespaces(out string, err error) Feature {
	f := Feature{Name: "namespaces"}
	if err != nil {
		f.Detail = "none were made"
		return f
	}
	var own []string
	for _, name := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		host, err := os.Readlink("/proc/self/ns/" + name)
		if err == nil && !strings.Contains(out, host+"\n") {
			own = append(own, name)
		}
	}
	f.OK = len(own) == 8
	f.Detail = "own " + strings.Join(own, " ")
	return f
}

func idmap(ctx context.Context) Feature {
	f := Feature{Name: "idmapped mounts", OK: true, Detail: "not needed by an unprivileged caller"}
	if os.Geteuid() != 0 {
		return f
	}
	dir, err := os.MkdirTemp("", "lm-sandbox-probe-")
	if err == nil {
		defer os.RemoveAll(dir)
		_, err = Run(ctx, Config{Workspace: dir}, "touch file")
	}
	f.Detail = "a root-owned workspace on the filesystem of " + os.TempDir() + " works"
	if err != nil {
		f.OK, f.Detail, f.Remedy = false, err.Error(), "use workspaces that an unprivileged user owns"
	}
	return f
}

func landlock() Feature {
	f := Feature{Name: "landlock", Detail: "not available", Remedy: "needs Linux 5.19 with landlock in the list of security modules"}
	if abi := landlockABI(); abi > 0 {
		f.OK, f.Detail, f.Remedy = true, fmt.Sprintf("ABI %d", abi), ""
	}
	return f
}

func controlGroup() Feature {
	detail, err := cgroup.Probe()
	if err != nil {
		return Feature{Name: "cgroup", Detail: err.Error() + "; limits are kept by rlimits and pid 1", Remedy: groupRemedy}
	}
	return Feature{Name: "cgroup", OK: true, Detail: detail}
}
