package sandbox

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzPutTar unpacks any bytes beside a canary. Whatever they are: nothing outside
// changes, nothing has a set-id bit, and what is there without an error is what a plain
// reader of archives finds in it.
func FuzzPutTar(f *testing.F) {
	f.Add(archive(f, entry{name: "d/", kind: tar.TypeDir, mode: 0o2755}, entry{name: "d/f", body: "content", mode: 0o4755}, entry{name: "l", kind: tar.TypeSymlink, link: "d/f"},
		entry{name: "h", kind: tar.TypeLink, link: "d/f"}).Bytes())
	f.Add(archive(f, entry{name: "../outside/f", body: "evil"}).Bytes())
	f.Add(archive(f, entry{name: "l", kind: tar.TypeSymlink, link: "../outside"}, entry{name: "l/f", body: "evil"}).Bytes())
	f.Add(archive(f, entry{name: "out/f", body: "evil"}, entry{name: "outfile", body: "mine"}).Bytes())
	f.Add(archive(f, entry{name: "a", body: "1", pax: map[string]string{"SCHILY.xattr.user.a": "b", "comment": "c"}}).Bytes())
	f.Add(sparse)
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, tree := range []bool{false, true} {
			unpackBesideCanary(t, dir, b, tree)
		}
	})
}

func unpackBesideCanary(t *testing.T, parent string, b []byte, tree bool) {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "")
	require.NoError(t, err)
	defer func() {
		root, err := os.OpenRoot(parent)
		require.NoError(t, err)
		defer root.Close()
		require.NoError(t, removeTree(root, filepath.Base(dir)))
	}()
	ws, outside := filepath.Join(dir, "ws"), filepath.Join(dir, "outside")
	require.NoError(t, errors.Join(os.Mkdir(ws, 0o755), os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "f"), []byte("canary"), 0o644),
		os.Symlink("../outside", filepath.Join(ws, "out")), os.Symlink("../outside/f", filepath.Join(ws, "outfile"))))
	before := ownership(t, outside)
	f, err := OpenFiles(ws, FileLimits{File: 1 << 16, Total: 1 << 18, Entries: 64})
	require.NoError(t, err)
	defer f.Close()
	report, err := f.unpack(t.Context(), ".", bytes.NewReader(b), tree)
	got, canaryErr := os.ReadFile(filepath.Join(outside, "f"))
	require.NoError(t, canaryErr)
	require.Equal(t, "canary", string(got))
	require.Equal(t, before, ownership(t, outside))
	require.LessOrEqual(t, report.Bytes, int64(1<<18))
	for info := range f.Walk(".") {
		require.Zero(t, info.Mode&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky|os.ModeDevice|os.ModeNamedPipe), info.Path)
		require.NotContains(t, info.Path, ".lm-sandbox-")
	}
	if err == nil {
		equalContent(t, f, b)
	}
}

func equalContent(t *testing.T, f *Files, b []byte) {
	t.Helper()
	archive := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := archive.Next()
		if err != nil {
			return
		}
		name, err := cleanName(h.Name)
		if err != nil || h.Typeflag != tar.TypeReg {
			continue
		}
		want, err := io.ReadAll(archive)
		require.NoError(t, err)
		r, _, err := f.GetFile(name)
		if err != nil { // its directory, or its own mode, keeps the owner out
			require.ErrorIs(t, err, os.ErrPermission)
			continue
		}
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.Equal(t, want, got, name)
	}
}
