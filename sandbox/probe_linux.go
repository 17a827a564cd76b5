package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"golang.org/x/sys/unix"
)

func probe(ctx context.Context) (Report, error) {
	var r Report
	// What the command sees of itself, not what was asked for.
	const look = `grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status && id -u && readlink /proc/self/ns/{user,mnt,pid,net,ipc,uts,cgroup,time}`
	res, err := Run(ctx, Config{}, look)
	if err == nil && res.ExitCode != 0 {
		err = &ErrSetup{"run a command", strings.TrimSpace(string(res.Stderr)), fmt.Errorf("exit code %d", res.ExitCode)}
	}
	run := Feature{Name: "sandbox", OK: err == nil, Detail: fmt.Sprintf("a command ran in %d ms", res.Duration.Milliseconds())}
	if err != nil {
		run.Detail, run.Remedy = err.Error(), remedyOf(err)
	} else {
		r.Level = res.Level
	}
	out := string(res.Stdout)
	r.Features = append(r.Features, run, namespaces(out, err),
		Feature{"no capabilities", strings.Contains(out, "CapEff:\t0000000000000000"), "every set is empty", ""},
		Feature{"no_new_privs", strings.Contains(out, "NoNewPrivs:\t1"), "set-user-id programs gain nothing", ""},
		Feature{"seccomp", strings.Contains(out, "Seccomp:\t2"), "system call filter", ""},
		idmap(), landlock(), controlGroup())
	for i := range r.Features {
		f := &r.Features[i]
		if !f.OK && f.Remedy == "" {
			f.Remedy = "see sandbox"
		}
	}
	return r, err
}

func remedyOf(err error) string {
	var ns *ErrUserNamespace
	var owner *ErrOwner
	switch {
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

func idmap() Feature {
	f := Feature{Name: "idmapped mounts", OK: true, Detail: "not needed by an unprivileged caller"}
	if os.Geteuid() != 0 {
		return f
	}
	dir, err := os.MkdirTemp("", "lm-sandbox-probe-")
	if err == nil {
		defer os.RemoveAll(dir)
		_, err = Run(context.Background(), Config{Workspace: dir}, "touch file")
	}
	f.Detail = "a root-owned workspace on the filesystem of " + os.TempDir() + " works"
	if err != nil {
		f.OK, f.Detail, f.Remedy = false, err.Error(), "use workspaces that an unprivileged user owns"
	}
	return f
}

func landlock() Feature {
	f := Feature{Name: "landlock", Remedy: "needs Linux 5.13 with landlock in the list of security modules"}
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		f.Detail = "not available: " + errno.Error()
		return f
	}
	return Feature{Name: f.Name, OK: true, Detail: fmt.Sprintf("ABI %d; not used by this version", abi)}
}

func controlGroup() Feature {
	detail, err := cgroup.Probe()
	if err != nil {
		return Feature{Name: "cgroup", Detail: err.Error() + "; limits are kept by rlimits and pid 1", Remedy: groupRemedy}
	}
	return Feature{Name: "cgroup", OK: true, Detail: detail}
}
