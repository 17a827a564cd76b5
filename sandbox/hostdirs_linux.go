package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// systemDirs are never lent for writing, nor what is below them: what a payload
// changes there, the host runs or believes.
var systemDirs = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin",
	"/sys", "/usr", "/var/lib", "/var/run", "/var/spool"}

// sharedDirs are of many owners: a directory below is lent, not they themselves.
var sharedDirs = []string{"/home", "/opt", "/root", "/srv", "/tmp", "/var", "/var/tmp"}

func refuseSystem(field, dir string) error {
	if dir == "" || within(dir, "/dev/shm") && dir != "/dev/shm" {
		return nil
	}
	refused := false
	for _, s := range systemDirs {
		refused = refused || within(dir, s) || within(s, dir)
	}
	for _, s := range sharedDirs {
		refused = refused || dir == s
	}
	if refused {
		return &ErrConfig{field, fmt.Sprintf("%.64q belongs to the system; use a directory of your own", dir)}
	}
	return nil
}

// kernelFilesystems show or change the host itself.
var kernelFilesystems = map[string]bool{"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "cgroup": true,
	"cgroup2": true, "securityfs": true, "debugfs": true, "tracefs": true, "configfs": true, "bpf": true, "pstore": true,
	"efivarfs": true, "mqueue": true, "binfmt_misc": true, "hugetlbfs": true, "selinuxfs": true, "resctrl": true, "nsfs": true}

// refuseKernelMounts looks for such a filesystem at or below a directory: what
// is mounted there would come along (proc_pid_mountinfo(5)), but for the names of
// except.
func refuseKernelMounts(field, dir string, except ...string) error {
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return &ErrSetup{"look at what is mounted below " + field, "/proc/self/mountinfo", err}
	}
	holder, holderType := "", ""
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(where) < 5 || len(what) == 0 {
			continue
		}
		at, kind := unescape(where[4]), what[0]
		hidden := func(name string) bool { return within(at, filepath.Join(dir, name)) }
		switch {
		case kernelFilesystems[kind] && within(at, dir) && !slices.ContainsFunc(except, hidden):
			return &ErrConfig{field, fmt.Sprintf("%.64q, which is mounted below it, is a %s of the host", at, kind)}
		case within(dir, at) && len(at) >= len(holder): // a later mount covers an earlier one
			holder, holderType = at, kind
		}
	}
	if kernelFilesystems[holderType] {
		return &ErrConfig{field, fmt.Sprintf("%.64q is in a %s of the host", dir, holderType)}
	}
	return nil
}

// mountinfo writes the bytes that would break its lines in octal.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
