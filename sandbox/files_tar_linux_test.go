package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type entry struct {
	name, body, link string
	kind             byte // 0 is a regular file
	mode             int64
	size             int64 // 0: of body
	pax              map[string]string
}

func archive(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body)), PAXRecords: e.pax,
			ModTime: time.Unix(1_000_000_000, 0), Uid: 0, Gid: 0, Uname: "root"}
		if e.size != 0 {
			h.Size = e.size
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.body)
		require.NoError(t, err)
	}
	if len(entries) == 0 || entries[len(entries)-1].size == 0 {
		require.NoError(t, w.Close())
	}
	return &b
}

func TestTar(t *testing.T) {
	ws := owned(t)
	f := files(t, ws, FileLimits{})
	report, err := f.PutTar(t.Context(), "in/to", archive(t,
		entry{name: "./", kind: tar.TypeDir, mode: 0o700}, entry{name: "./d/", kind: tar.TypeDir, mode: 0o2750}, entry{name: "./d/f", body: "content", mode: 0o6711},
		entry{name: "d/l", kind: tar.TypeSymlink, link: "../d/f"}, entry{name: "h", kind: tar.TypeLink, link: "./d/f"}, entry{name: "made/by/name", body: "x"},
		entry{name: "d", kind: tar.TypeDir, mode: 0o555}))
	require.NoError(t, err)
	require.Equal(t, TarReport{Entries: 6, Bytes: 8}, report)
	st, err := os.Stat(filepath.Join(ws, "in/to/d/f"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o711), st.Mode(), "no set-id bits")
	require.EqualValues(t, 1_000_000_000, st.ModTime().Unix())
	require.EqualValues(t, 2, st.Sys().(*syscall.Stat_t).Nlink)
	st, err = os.Stat(filepath.Join(ws, "in/to/d"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o755, st.Mode())

	var one, two bytes.Buffer
	_, err = f.GetTar(t.Context(), "in", &one, TarOptions{})
	require.NoError(t, err)
	now := time.Now()
	require.NoError(t, os.Chtimes(filepath.Join(ws, "in/to/d/f"), now, now))
	report, err = f.GetTar(t.Context(), "in", &two, TarOptions{})
	require.NoError(t, err)
	require.Equal(t, one.Bytes(), two.Bytes(), "the same bytes")
	require.Equal(t, 8, report.Entries)

	other := files(t, owned(t), FileLimits{})
	_, err = other.PutTar(t.Context(), ".", &one)
	require.NoError(t, err)
	var three bytes.Buffer
	_, err = other.GetTar(t.Context(), ".", &three, TarOptions{})
	require.NoError(t, err)
	require.Equal(t, two.Bytes(), three.Bytes(), "there and back")
	_, err = f.GetTar(t.Context(), "in", &three, TarOptions{Times: true})
	require.NoError(t, err)
	require.NotEqual(t, two.Bytes(), three.Bytes())
}

// 106, 64: archives made to do harm. Nothing outside of the directory changes.
func TestTarRefused(t *testing.T) {
	tests := []struct {
		name    string
		entries []entry
		path    string // of the error
	}{
		{"absolute", []entry{{name: "/x"}}, "/x"},
		{"upwards", []entry{{name: "../x"}}, "../x"},
		{"upwards within", []entry{{name: "a/../../x"}}, "a/../../x"},
		{"in a circle", []entry{{name: "a/../x"}}, "a/../x"},
		{"link, absolute", []entry{{name: "l", kind: tar.TypeSymlink, link: "/etc/passwd"}}, "l"},
		{"link, upwards", []entry{{name: "d/l", kind: tar.TypeSymlink, link: "../../x"}}, "d/l"},
		{"link, through another", []entry{{name: "p/q", kind: tar.TypeSymlink, link: "."}, {name: "p/q/l", kind: tar.TypeSymlink, link: "../../x"}}, "p/q/l"},
		{"through a link of the archive", []entry{{name: "l", kind: tar.TypeSymlink, link: "d"}, {name: "d", kind: tar.TypeDir}, {name: "l/f"}}, "l/f"},
		{"through a link of the directory", []entry{{name: "out/f"}}, "out/f"},
		{"hard link out", []entry{{name: "h", kind: tar.TypeLink, link: "../outside/f"}}, "h"},
		{"hard link, absolute", []entry{{name: "h", kind: tar.TypeLink, link: "/etc/passwd"}}, "h"},
		{"hard link to a link that is there", []entry{{name: "h", kind: tar.TypeLink, link: "outfile"}}, "h"},
		{"hard link to a link of the archive", []entry{{name: "s", kind: tar.TypeSymlink, link: "x"}, {name: "h", kind: tar.TypeLink, link: "s"}}, "h"},
		{"hard link to itself", []entry{{name: "h", kind: tar.TypeLink, link: "h"}}, "h"},
		{"character device", []entry{{name: "c", kind: tar.TypeChar}}, "c"},
		{"block device", []entry{{name: "b", kind: tar.TypeBlock}}, "b"},
		{"pipe", []entry{{name: "p", kind: tar.TypeFifo}}, "p"},
		{"twice", []entry{{name: "f", body: "1"}, {name: "./f", body: "2"}}, "./f"},
		{"a file where a directory was", []entry{{name: "d", kind: tar.TypeDir}, {name: "d", body: "2"}}, "d"},
		{"a directory where a file was", []entry{{name: "d"}, {name: "d/", kind: tar.TypeDir}}, "d/"},
		{"below a file", []entry{{name: "d"}, {name: "d/f"}}, "d/f"},
		{"in place of a directory", []entry{{name: "there"}}, "there"},
		{"unknown type", []entry{{name: "v", kind: 'V'}}, "v"},
		{"one large file", []entry{{name: "big", size: 2 << 20}}, "big"},
		{"large in all", []entry{{name: "1", body: strings.Repeat("x", 1<<20)}, {name: "2", body: strings.Repeat("x", 1<<20)}, {name: "3", body: "x"}}, "3"},
		{"a claim beyond all", []entry{{name: "1", size: 1 << 50}}, "1"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := owned(t)
			ws, outside := filepath.Join(dir, "ws"), filepath.Join(dir, "outside")
			for _, d := range []string{ws, outside, filepath.Join(ws, "there", "x")} {
				require.NoError(t, os.MkdirAll(d, 0o755))
			}
			require.NoError(t, os.WriteFile(filepath.Join(outside, "f"), []byte("canary"), 0o644))
			require.NoError(t, os.Symlink("../outside", filepath.Join(ws, "out")))
			require.NoError(t, os.Symlink("../outside/f", filepath.Join(ws, "outfile")))
			before := ownership(t, outside)
			f := files(t, ws, FileLimits{File: 1 << 20, Total: 2 << 20})
			_, err := f.PutTar(t.Context(), ".", archive(t, tc.entries...))
			refusedFile(t, err)
			require.Contains(t, err.Error(), `"`+tc.path+`"`)
			require.Equal(t, before, ownership(t, outside))
			require.NotContains(t, ownership(t, dir), ".lm-sandbox-")
		})
	}
	f := files(t, owned(t), FileLimits{Entries: 3})
	var large *ErrTooLarge
	_, err := f.PutTar(t.Context(), ".", archive(t, entry{name: "1"}, entry{name: "2"}, entry{name: "3"}, entry{name: "4"}))
	require.ErrorAs(t, err, &large)
	_, err = f.PutTar(t.Context(), ".", strings.NewReader(strings.Repeat("no archive ", 100)))
	require.ErrorIs(t, err, tar.ErrHeader)
	_, err = f.PutTar(t.Context(), ".", bytes.NewReader(sparse))
	refusedFile(t, err)
	_, err = f.PutTar(t.Context(), ".", archive(t, entry{name: "cut", body: "", size: 100}))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.PutTar(ctx, ".", archive(t))
	require.ErrorIs(t, err, context.Canceled)
	_, err = f.GetTar(ctx, ".", io.Discard, TarOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// sparse is a GNU archive with a file of 8 GiB in 512 bytes: a header of the old
// form, with the map of the file in it.
var sparse = func() []byte {
	b := make([]byte, 3*512)
	copy(b, "bomb")
	copy(b[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        S")
	copy(b[257:], "ustar  \x00")
	copy(b[386:], "00000000000\x0000000000000\x00") // one piece, at 0, of 0 bytes
	copy(b[483:], "77777777777\x00")                // its size
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], []byte{'0', byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0})
	return b
}()
