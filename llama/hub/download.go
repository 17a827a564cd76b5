package hub

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

const userAgent = "lm-sandbox (https://github.com/lm-sandbox/lm-sandbox)"

// download brings the files of t into dir over HTTP.
func (p *puller) download(ctx context.Context, dir string, t *target) (*manifest, error) {
	var missing int64
	for _, f := range t.files {
		missing += max(0, f.size-partSize(dir, f.name))
	}
	if err := needSpace(dir, missing); err != nil {
		return nil, err
	}
	p.meter.start(t.size())
	var sums []string
	for _, f := range t.files {
		sum, size, err := p.downloadFile(ctx, dir, f)
		if err != nil {
			return nil, err
		}
		p.meter.next(size)
		sums = append(sums, sum)
	}
	source := t.source
	if source == "" {
		source = t.files[0].url
	}
	return newManifest(dir, t, source, sums)
}

// downloadFile brings one file into dir and returns its sha256 and size.
func (p *puller) downloadFile(ctx context.Context, dir string, f remote) (string, int64, error) {
	path := filepath.Join(dir, f.name)
	if f.sha256 != "" { // a part of a split model may be there from a pull that was cut short
		if got, err := hashFile(ctx, path); err == nil && got == f.sha256 {
			return got, f.size, nil
		}
	}
	u, err := url.Parse(f.url)
	if err != nil {
		return "", 0, err
	}
	for again := false; ; again = true {
		pt, err := openPart(ctx, path, u)
		if err != nil {
			return "", 0, err
		}
		if err := p.fill(ctx, f, u, pt); err != nil {
			if errors.Is(err, ErrChecksum) {
				return "", 0, errors.Join(err, pt.discard())
			}
			return "", 0, errors.Join(err, pt.keep())
		}
		sum, size, resumed := pt.sum(), pt.n, pt.resumed
		if f.sha256 == "" || sum == f.sha256 {
			return sum, size, asDiskFull(pt.finish(), dir, 0)
		}
		if err := pt.discard(); err != nil {
			return "", 0, err
		}
		// Bytes of several answers may be of several files, or a crash may have lost some: one new start is fair.
		if !resumed || again {
			return "", 0, &ChecksumError{File: shown(u), Want: f.sha256, Got: sum}
		}
	}
}

// fill fetches what pt lacks, with as many connections as the policy allows.
func (p *puller) fill(ctx context.Context, f remote, u *url.URL, pt *part) error {
	if pt.whole() {
		return nil
	}
	return p.try(ctx, u, func() int64 { return pt.n }, func() error { return p.attempt(ctx, f, u, pt) })
}

// attempt makes one request for the rest of the file and appends what comes.
func (p *puller) attempt(ctx context.Context, f remote, u *url.URL, pt *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(p.retry.stall, func() { cancel(errStalled) })
	defer stall.Stop()

	req, err := p.request(ctx, u, f.token)
	if err != nil {
		return err
	}
	// Without a validator, only a checksum can tell whether the rest is of the same file.
	from := pt.n
	if pt.meta.validator() == "" && f.sha256 == "" {
		from = 0
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if v := pt.meta.validator(); v != "" {
			req.Header.Set("If-Range", v)
		}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			return &transientError{err: errStalled}
		}
		return requestError(u, err)
	}
	defer resp.Body.Close()
	body := bufio.NewReaderSize(resp.Body, 256<<10)

	switch resp.StatusCode {
	case http.StatusOK:
		err = p.begin(f, u, resp, body, pt)
	case http.StatusPartialContent:
		err = resume(resp, from, pt)
	case http.StatusRequestedRangeNotSatisfiable:
		err = forget(pt, "the server does not have the rest of the file")
	default:
		err = statusError(u, resp)
	}
	if err != nil {
		return err
	}
	size := f.size
	if size == 0 {
		size = pt.meta.Size
	}
	if err := needSpace(filepath.Dir(pt.path), size-pt.n); err != nil {
		return err
	}
	return p.receive(ctx, u, body, pt, size, func() { stall.Reset(p.retry.stall) })
}

func (p *puller) request(ctx context.Context, u *url.URL, token string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("%w: HF_TOKEN has characters that no token has; correct or unset it", ErrAccess)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity") // ranges are of the bytes as they are
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// begin takes an answer that starts with the first byte. What is there is thrown away only when a model comes instead.
func (p *puller) begin(f remote, u *url.URL, resp *http.Response, body *bufio.Reader, pt *part) error {
	head, err := body.Peek(len(magic))
	if err != nil && !errors.Is(err, io.EOF) {
		return &transientError{err: err}
	}
	if string(head) != magic {
		return notModel(u, resp.Header.Get("Content-Type"), head)
	}
	size := max(0, resp.ContentLength)
	if size == 0 && resp.ProtoMajor == 1 && len(resp.TransferEncoding) == 0 && f.size == 0 && f.sha256 == "" {
		return fmt.Errorf("%s: %w: the server does not say where the file ends, so a cut connection would look like its end; "+
			"fetch it by other means and give its path", shown(u), ErrUnavailable)
	}
	if size > 0 && f.size > 0 && size != f.size {
		return &ChecksumError{File: shown(u), Want: fmt.Sprintf("%d bytes", f.size), Got: fmt.Sprintf("%d bytes", size)}
	}
	if size == 0 {
		size = f.size
	}
	return pt.restart(metaOf(u, resp, size))
}

// resume takes an answer that continues pt, if it really does.
func resume(resp *http.Response, from int64, pt *part) error {
	var first, last, size int64
	_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
	switch {
	case err != nil || from == 0 || first != from || last < first || last >= size:
		return forget(pt, fmt.Sprintf("the server sent the wrong range %q", resp.Header.Get("Content-Range")))
	case pt.meta.Size > 0 && size != pt.meta.Size,
		pt.meta.ETag != "" && resp.Header.Get("ETag") != "" && resp.Header.Get("ETag") != pt.meta.ETag:
		return forget(pt, "the file has changed on the server")
	}
	pt.resumed, pt.meta.Size = true, size
	return nil
}

// forget empties pt, so that the next try asks for the whole file.
func forget(pt *part, reason string) error {
	if err := pt.restart(partMeta{}); err != nil {
		return err
	}
	return &transientError{err: errors.New(reason)}
}

// receive appends body to pt up to size bytes, 0 = unknown.
func (p *puller) receive(ctx context.Context, u *url.URL, body io.Reader, pt *part, size int64, alive func()) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if size > 0 && pt.n+int64(n) > size {
				return &ChecksumError{File: shown(u), Want: fmt.Sprintf("%d bytes", size), Got: "more"}
			}
			if err := pt.write(buf[:n]); err != nil {
				return asDiskFull(err, filepath.Dir(pt.path), max(0, size-pt.n))
			}
			p.meter.set(pt.n, size)
		}
		switch {
		case err == io.EOF && pt.n < size:
			return &transientError{err: io.ErrUnexpectedEOF}
		case err == io.EOF:
			return nil
		case errors.Is(context.Cause(ctx), errStalled):
			return &transientError{err: errStalled}
		case err != nil:
			return &transientError{err: err}
		}
	}
}
