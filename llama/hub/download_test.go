package hub

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const modelSize = 600_000 // more than two reads

func TestDownloadResumesAfterCut(t *testing.T) {
	body := fakeModel(modelSize, 1)
	for _, at := range []int{1, 3, 4, 5, 70_000, 262_144, modelSize / 2, modelSize - 1} {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			dir := t.TempDir()
			o := newOrigin(t, body)
			o.fail(o.cut(at))
			m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
			require.NoError(t, err)
			requireModel(t, dir, m, body)
			want := fmt.Sprintf("bytes=%d-", at)
			if at < len(magic) { // too little to know that it is a model
				want = ""
			}
			require.Equal(t, []string{"", want}, o.ranges())
			if want != "" {
				require.Equal(t, `"one"`, o.requests()[1].Header.Get("If-Range"))
			}
		})
	}
}

func TestDownloadSurvivesManyCuts(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	const cuts = 20 // far more than the tries in a row
	o.fail(slices.Repeat([]http.HandlerFunc{o.cut(20_000)}, cuts)...)
	m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Len(t, o.requests(), cuts+1)
}

func TestDownloadAfterOddAnswersToRange(t *testing.T) {
	body := fakeModel(modelSize, 1)
	other := fakeModel(modelSize, 2)
	const at = 100_000
	rest := body[at:]
	full := strconv.Itoa(modelSize)
	rng := func(first, last int, size string) string { return fmt.Sprintf("bytes %d-%d/%s", first, last, size) }
	for name, fault := range map[string]http.HandlerFunc{
		"range ignored":           raw(200, body, "ETag", `"one"`),
		"range too early":         raw(206, body[at-1:], "Content-Range", rng(at-1, modelSize-1, full)),
		"range too late":          raw(206, body[at+1:], "Content-Range", rng(at+1, modelSize-1, full)),
		"range from the start":    raw(206, body, "Content-Range", rng(0, modelSize-1, full)),
		"range backwards":         raw(206, rest, "Content-Range", rng(at, at-1, full)),
		"range beyond the size":   raw(206, rest, "Content-Range", rng(at, modelSize, full)),
		"range of another size":   raw(206, rest, "Content-Range", rng(at, modelSize-1, strconv.Itoa(modelSize+1))),
		"range of no size":        raw(206, rest, "Content-Range", rng(at, modelSize-1, "*")),
		"range without header":    raw(206, rest),
		"range of garbage":        raw(206, rest, "Content-Range", "lines 1-2/3"),
		"range of another file":   raw(206, other[at:], "ETag", `"two"`, "Content-Range", rng(at, modelSize-1, full)),
		"range only in part":      raw(206, rest[:1000], "ETag", `"one"`, "Content-Range", rng(at, at+999, full)),
		"not satisfiable":         raw(416, nil, "Content-Range", "bytes */5"),
		"not available for once":  status(http.StatusServiceUnavailable, ""),
		"too many for once":       status(http.StatusTooManyRequests, "0"),
		"connection cut at once":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"fewer bytes than in 206": raw(206, rest[:5], "ETag", `"one"`, "Content-Length", strconv.Itoa(len(rest)), "Content-Range", rng(at, modelSize-1, full)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := newOrigin(t, body)
			o.fail(o.cut(at), fault)
			m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
			require.NoError(t, err)
			requireModel(t, dir, m, body)
			going := fmt.Sprintf("bytes=%d-", at)
			require.Equal(t, going, o.ranges()[1])
			switch name {
			case "range ignored":
				require.Len(t, o.ranges(), 2)
			case "range only in part":
				require.Equal(t, fmt.Sprintf("bytes=%d-", at+1000), o.ranges()[2])
			case "fewer bytes than in 206":
				require.Equal(t, fmt.Sprintf("bytes=%d-", at+5), o.ranges()[2])
			case "not available for once", "too many for once", "connection cut at once":
				require.Equal(t, going, o.ranges()[2])
			default: // what came is not trusted, nor what was there
				require.Empty(t, o.ranges()[2])
			}
		})
	}
}

func TestDownloadWhenTheFileChanges(t *testing.T) {
	before, after := fakeModel(modelSize, 1), fakeModel(modelSize, 2)
	for name, etags := range map[string][2]string{
		"strong tags": {`"one"`, `"two"`}, // If-Range brings the new file
		"no tags":     {"", ""},           // then nothing tells that the file is the same
		"weak tags":   {`W/"one"`, `W/"one"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := newOrigin(t, nil)
			o.change(before, etags[0])
			o.fail(func(w http.ResponseWriter, r *http.Request) {
				defer o.change(after, etags[1])
				o.cut(300_000)(w, r)
			})
			m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
			require.NoError(t, err)
			requireModel(t, dir, m, after)
			require.Equal(t, etags[0] == `"one"`, o.ranges()[1] != "", "continued only by a strong tag")
		})
	}
}

func TestDownloadGivesUp(t *testing.T) {
	body := fakeModel(modelSize, 1)
	t.Run("cut at one place", func(t *testing.T) {
		dir := t.TempDir()
		o := newOrigin(t, body)
		dead := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
		o.fail(o.cut(50_000), dead, dead, dead, dead, dead, dead)
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "pull again")
		require.Len(t, o.requests(), 1+quick.tries)
		require.Equal(t, []string{"model.gguf.part", "model.gguf.part.json"}, leftIn(t, dir))

		o.fail()
		m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		ranges := o.ranges()
		require.Equal(t, "bytes=50000-", ranges[len(ranges)-1])
	})
	t.Run("nobody there", func(t *testing.T) {
		o := newOrigin(t, body)
		o.Close()
		dir := t.TempDir()
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.ErrorIs(t, err, ErrUnavailable)
		require.Empty(t, leftIn(t, dir))
	})
}

func TestDownloadStatus(t *testing.T) {
	for _, c := range []struct {
		code  int
		after string
		want  error
		tries int
	}{
		{401, "", ErrAccess, 1},
		{403, "", ErrAccess, 1},
		{404, "", ErrNotFound, 1},
		{410, "", ErrNotFound, 1},
		{418, "", ErrUnavailable, 1},
		{204, "", ErrUnavailable, 1},
		{429, "", ErrUnavailable, quick.tries},
		{500, "", ErrUnavailable, quick.tries},
		{503, "", ErrUnavailable, quick.tries},
		{503, "3600", ErrUnavailable, 1}, // longer than anyone waits
		{429, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), ErrUnavailable, 1},
	} {
		t.Run(fmt.Sprint(c.code, " ", c.after), func(t *testing.T) {
			dir := t.TempDir()
			o := newOrigin(t, nil, slices.Repeat([]http.HandlerFunc{status(c.code, c.after)}, 10)...)
			_, err := pullFast(t.Context(), t, o.url()+"?sig=secret", Options{Dir: dir})
			require.ErrorIs(t, err, c.want)
			var se *StatusError
			require.ErrorAs(t, err, &se)
			require.Equal(t, c.code, se.Code)
			require.Equal(t, c.after != "", se.RetryAfter > 50*time.Minute)
			require.NotContains(t, err.Error(), "secret")
			require.Len(t, o.requests(), c.tries)
			require.Empty(t, leftIn(t, dir))
		})
	}
}

func TestDownloadWaitsAsAsked(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body, status(503, "1"))
	begin := time.Now()
	m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begin), time.Second)
	requireModel(t, dir, m, body)
}

func TestDownloadRefusesWhatIsNoModel(t *testing.T) {
	page := []byte("<!DOCTYPE html><html>please log in</html>")
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"HTML":        {raw(200, page, "Content-Type", "text/html"), "page of text"},
		"HTML unsaid": {raw(200, page, "Content-Type", "application/octet-stream"), "page of text"},
		"zip":         {raw(200, []byte("PK\x03\x04..."), "Content-Type", "application/zip"), "begin with GGUF"},
		"empty":       {raw(200, nil), "begin with GGUF"},
		"short":       {raw(200, []byte("GGU"), "Content-Type", "application/octet-stream"), "begin with GGUF"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := newOrigin(t, nil, c.answer)
			_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
			require.ErrorIs(t, err, ErrModelFormat)
			require.ErrorContains(t, err, c.says)
			require.Len(t, o.requests(), 1)
			require.Empty(t, leftIn(t, dir))
		})
	}
	t.Run("page of a hub", func(t *testing.T) {
		o := newOrigin(t, nil, raw(200, page))
		_, err := pullFast(t.Context(), t, o.URL+"/o/r/blob/main/m.gguf", Options{Dir: t.TempDir()})
		require.ErrorIs(t, err, ErrModelFormat)
		require.ErrorContains(t, err, "/resolve/")
	})
	t.Run("a part survives a login page", func(t *testing.T) {
		body, dir := fakeModel(modelSize, 1), t.TempDir()
		o := newOrigin(t, body)
		o.fail(o.cut(50_000), raw(200, page))
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.ErrorIs(t, err, ErrModelFormat)
		m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		require.Equal(t, []string{"", "bytes=50000-", "bytes=50000-"}, o.ranges())
	})
}

func TestDownloadOfUnknownLength(t *testing.T) {
	body := fakeModel(modelSize, 1)
	t.Run("chunked", func(t *testing.T) {
		dir := t.TempDir()
		o := newOrigin(t, body, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"one"`)
			_, _ = w.Write(body[:100_000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		require.Equal(t, []string{"", "bytes=100000-"}, o.ranges())
	})
	t.Run("until the connection closes", func(t *testing.T) {
		dir := t.TempDir()
		o := newOrigin(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			answerUntilClose(buf, body)
			_ = conn.Close()
		})
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.ErrorIs(t, err, ErrUnavailable)
		require.Empty(t, leftIn(t, dir))
	})
}

func answerUntilClose(buf *bufio.ReadWriter, body []byte) {
	_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	_, _ = buf.Write(body)
	_ = buf.Flush()
}

func TestDownloadLeavesStalledConnection(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	o.fail(
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, // before the header
		func(w http.ResponseWriter, r *http.Request) { // in the body
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", strconv.Itoa(modelSize))
			_, _ = w.Write(body[:1000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	)
	p := testPuller(t, Options{Dir: dir})
	p.retry.stall = 2 * time.Second // for what works, too
	r, err := parseRef(o.url())
	require.NoError(t, err)
	m, err := p.pull(t.Context(), r)
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Equal(t, []string{"", "", "bytes=1000-"}, o.ranges())
}

func TestDownloadCancelled(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	o.fail(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", strconv.Itoa(modelSize))
		_, _ = w.Write(body[:200_000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last Progress
	_, err := pullFast(ctx, t, o.url(), Options{Dir: dir, Progress: func(p Progress) {
		last = p
		cancel() // as soon as anything has come
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, int64(modelSize), last.Total)
	parts, err := filepath.Glob(filepath.Join(dir, "*", "model.gguf.part"))
	require.NoError(t, err)
	require.Len(t, parts, 1)
	st, err := os.Stat(parts[0])
	require.NoError(t, err)
	require.GreaterOrEqual(t, st.Size(), last.Done)

	m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Equal(t, fmt.Sprintf("bytes=%d-", st.Size()), o.ranges()[1])

	_, err = Pull(ctx, o.url(), Options{Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, errors.Is(err, ErrUnavailable))
}
