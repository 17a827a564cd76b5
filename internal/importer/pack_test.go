package importer

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
)

// Only what git tracks is packed, with the contents of the working tree.
func TestPack(t *testing.T) {
	root, proxy := t.TempDir(), t.TempDir()
	git := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	write := func(name, text string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	git("init", "-q")
	write("go.mod", "module example.org/m\n")
	write("a.go", "package m\n")
	write("gone.go", "package m\n")
	write("nested/go.mod", "module example.org/m/nested\n")
	write("nested/n.go", "package nested\n")
	write(".gitignore", "ignored.go\n")
	write("ignored.go", "package m\n")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	write("a.go", "package m // changed\n")
	write("untracked.go", "package m\n")
	require.NoError(t, os.Remove(filepath.Join(root, "gone.go")))

	m := module.Version{Path: "example.org/m", Version: "v0.0.1"}
	require.NoError(t, pack(t.Context(), root, proxy, m))
	z, err := zip.OpenReader(filepath.Join(proxy, "example.org/m/@v/v0.0.1.zip"))
	require.NoError(t, err)
	defer z.Close()
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		if f.Name == "example.org/m@v0.0.1/a.go" {
			require.EqualValues(t, len("package m // changed\n"), f.UncompressedSize64)
		}
	}
	require.ElementsMatch(t, []string{"example.org/m@v0.0.1/.gitignore", "example.org/m@v0.0.1/a.go", "example.org/m@v0.0.1/go.mod"}, names)
}
