package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// installHelper installs the sandbox's helper and, where profiles is there, the
// AppArmor profile for it, and says what is left to do.
func installHelper(w io.Writer, path, profiles string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := sandbox.InstallHelper(path); err != nil {
		return err
	}
	fmt.Fprintln(w, "installed", path)
	if !isDir(profiles) {
		fmt.Fprintln(w, "this host has no AppArmor profiles; none is needed")
		return nil
	}
	profile := filepath.Join(profiles, filepath.Base(sandbox.DefaultHelperPath))
	if err := os.WriteFile(profile, []byte(sandbox.AppArmorProfile(path)), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(w, "installed %s\nload it: apparmor_parser -r %s\n", profile, profile)
	if path != sandbox.DefaultHelperPath {
		fmt.Fprintln(w, "use it:  --helper", path)
	}
	return nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
