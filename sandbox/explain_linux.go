package sandbox

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// explain turns the helper's failure into the error that says what to do.
func explain(f proto.Failure, r *proto.Request, c *Config) error {
	errno := syscall.Errno(f.Errno)
	switch f.Stage {
	case proto.StageDrop:
		if errno == syscall.EINVAL && os.Geteuid() != 0 {
			return &ErrUserNamespace{Reason: "the caller's own uid or gid has no number in the user namespace that it is in", Err: errno,
				Remedy: "map both where that namespace is made (newuidmap, newgidmap), or run as a user that is mapped"}
		}
	case proto.StageDir:
		return &ErrConfig{"Dir", dirReason(r.Dir, errno)}
	case proto.StageOverlay:
		return explainOverlay(c, errno)
	case proto.StageExec:
		return &ErrExec{r.Path, errno}
	case proto.StageIDMap:
		return &ErrOwner{Path: hostPath(f.Detail, r), Err: errno,
			Remedy: "give it to an unprivileged user, or use one on ext4, xfs, btrfs or (from Linux 6.3) tmpfs"}
	case proto.StageMount, proto.StageRoot:
		if err := explainDevice(f.Detail, errno, r, c); err != nil {
			return err
		}
		if field := targetField(f.Detail, c); field != "" && (errno == syscall.ELOOP || errno == syscall.ENOTDIR) {
			return &ErrConfig{field, "leads through a symbolic link or a file of the root"}
		}
		if strings.HasPrefix(f.Detail, "workspace/") {
			return &ErrConfig{"Protect", fmt.Sprintf("%.64q changed while the sandbox was made: %v", f.Detail, errno)}
		}
		if field := bindField(f.Detail, c); field != "" {
			return &ErrConfig{field, errno.Error()}
		}
	}
	if refused(f.Stage, errno) {
		why, remedy := namespaceRemedy(f.Stage, errno)
		return &ErrUserNamespace{Reason: fmt.Sprintf("%s (%s: %v)", why, f.Stage, errno), Remedy: remedy, Err: errno}
	}
	return &ErrSetup{f.Stage.String(), f.Detail, errno}
}

func dirReason(dir string, errno syscall.Errno) string {
	switch errno {
	case syscall.ENOENT:
		return fmt.Sprintf("%.64q does not exist in the sandbox", dir)
	case syscall.ENOTDIR:
		return fmt.Sprintf("%.64q is not a directory in the sandbox", dir)
	case syscall.ELOOP:
		return fmt.Sprintf("%.64q leads through a symbolic link", dir)
	}
	return fmt.Sprintf("%.64q: %v", dir, errno)
}

// bindField is the field of c behind a mount point, "" for one of the sandbox's own.
func bindField(target string, c *Config) string {
	if target == "workspace" && c.Workspace != "" {
		return "Workspace"
	}
	for i, b := range c.Binds {
		if strings.TrimPrefix(b.Target, "/") == target {
			return fmt.Sprintf("Binds[%d].Source", i)
		}
	}
	return ""
}

// targetField is the field of c whose target is at or below a path of the new root.
func targetField(detail string, c *Config) string {
	for i, b := range c.Binds {
		if within(b.Target, "/"+detail) {
			return fmt.Sprintf("Binds[%d].Target", i)
		}
	}
	return ""
}

func hostPath(target string, r *proto.Request) string {
	for _, o := range r.Ops {
		if o.Kind == proto.OpBind && o.Path == target {
			return o.Source
		}
	}
	return target
}

// refused says whether an error is a host's policy against unprivileged
// namespaces rather than a fault.
func refused(s proto.Stage, errno syscall.Errno) bool {
	switch errno {
	case syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS, syscall.EINVAL:
	default:
		return false
	}
	switch s {
	case proto.StageClone, proto.StageMap, proto.StageNetwork, proto.StageRoot, proto.StageMount, proto.StageProc,
		proto.StagePivot:
		return true
	}
	return false
}

// namespaceRemedy looks at the host for the policy that refused.
func namespaceRemedy(s proto.Stage, errno syscall.Errno) (why, remedy string) {
	sysctl := func(name string) string {
		b, _ := os.ReadFile("/proc/sys/" + name) // absent where the kernel has no such policy
		return strings.TrimSpace(string(b))
	}
	switch {
	case sysctl("user/max_user_namespaces") == "0", errno == syscall.ENOSPC && s == proto.StageClone:
		return "their number is limited", "set sysctl user.max_user_namespaces to a larger number, 15000 for example"
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return "the kernel reserves them to root", "set sysctl kernel.unprivileged_userns_clone=1"
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts them to named programs", "as root run 'lm-sandbox doctor --install-helper', which " +
			"installs the helper and an AppArmor profile for it, or set sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	case filtered():
		return "a system call filter of this process or its container refuses", "run the container with a profile that allows " +
			"clone, unshare and mount in user namespaces (docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
	}
	return "the kernel or a security module does not allow it", "allow unprivileged user namespaces on this host; " +
		"'lm-sandbox doctor' shows which step fails"
}

// filtered says whether this process is under a seccomp filter.
func filtered() bool {
	b, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(b), "\nSeccomp:\t2")
}
