package sandbox

import (
	_ "embed" // for the profile
	"strings"
)

// DefaultHelperPath is where the helper is looked for on hosts whose AppArmor policy
// reserves user namespaces to named programs, when [Config].HelperPath is "".
const DefaultHelperPath = "/usr/libexec/lm-sandbox-helper"

//go:embed apparmor/lm-sandbox-helper
var profile string

// AppArmorProfile is the text of a profile (apparmor.d(5)) that lets the helper at a
// path, and no other program, make user namespaces. It confines nothing.
func AppArmorProfile(path string) string {
	return strings.ReplaceAll(profile, DefaultHelperPath, path)
}

// InstallHelper writes the helper of this release to a path, absolute and in a
// directory that is there, with mode 0755; what was there is replaced at once and
// running sandboxes keep theirs. The path is for [Config].HelperPath. It should be
// one that only root can write, so that a profile for it names nothing else.
// Errors: [ErrConfig] for a path that is not absolute, [ErrUnsupported], those of the
// file system.
func InstallHelper(path string) error { return installHelper(path) }
