package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
)

func installHelper(path string) error {
	if len(helper.Binary()) == 0 {
		return fmt.Errorf("%w: no helper for this architecture", ErrUnsupported)
	}
	if !filepath.IsAbs(path) {
		return &ErrConfig{"HelperPath", fmt.Sprintf("%.64q is not absolute", path)}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".lm-sandbox-helper-*")
	if err != nil {
		return fmt.Errorf("sandbox: install the helper: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(helper.Binary())
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("sandbox: install the helper: %w", err)
	}
	return nil
}

// checkHelper says whether a path holds the helper of this release: another program
// would not answer, or misread what it is told.
func checkHelper(path string) error {
	st, err := os.Stat(path) // a fifo, or what has no end, is not to be read
	same := err == nil && st.Mode().IsRegular() && st.Size() == int64(len(helper.Binary()))
	var b []byte
	if same {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return &ErrConfig{"HelperPath", reason(err)}
	}
	if !same || !bytes.Equal(b, helper.Binary()) {
		return &ErrConfig{"HelperPath", fmt.Sprintf("%.64q is not the helper of this release; install it with 'lm-sandbox doctor --install-helper'", path)}
	}
	return nil
}

// installedHelper is the helper at its usual place on a host whose policy wants a
// name, or "".
func installedHelper(policy, path string) string {
	b, err := os.ReadFile(policy)
	if err != nil || strings.TrimSpace(string(b)) != "1" || checkHelper(path) != nil {
		return ""
	}
	return path
}

// namedHelper is asked once: AppArmor is set up before programs run.
var namedHelper = sync.OnceValue(func() string { return installedHelper(appArmorPolicy, DefaultHelperPath) })

// appArmorPolicy is 1 where AppArmor reserves user namespaces to programs that a
// profile names by their path.
const appArmorPolicy = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
