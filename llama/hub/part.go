package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// part is a file that is not whole yet: NAME.part, and beside it NAME.part.json, which says of what it is a part. Its
// checksum grows with it.
type part struct {
	f       *os.File
	path    string // of the whole file
	hash    hash.Hash
	n       int64 // bytes in the file
	meta    partMeta
	resumed bool // the bytes come from more than one answer
}

// partMeta tells whether a part can be continued.
type partMeta struct {
	URL          string `json:"url"` // without its query; the directory of the cache is bound to the whole
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Size         int64  `json:"size,omitempty"` // of the whole file, 0 = unknown
}

func metaOf(u *url.URL, resp *http.Response, size int64) partMeta {
	return partMeta{URL: shown(u), ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), Size: size}
}

// validator is what If-Range may carry: a weak ETag does not stand for the same bytes (RFC 9110, 13.1.5).
func (m partMeta) validator() string {
	if m.ETag != "" && !strings.HasPrefix(m.ETag, "W/") {
		return m.ETag
	}
	return m.LastModified
}

// openPart opens the part of the file path that an earlier pull of u left, or a new one.
func openPart(ctx context.Context, path string, u *url.URL) (*part, error) {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	p := &part{f: f, path: path, hash: sha256.New()}
	b, err := os.ReadFile(p.metaPath())
	switch {
	case err == nil && json.Unmarshal(b, &p.meta) == nil && p.meta.URL == shown(u):
		p.n, err = copyContext(ctx, p.hash, f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		p.resumed = p.n > 0
		if p.meta.Size == 0 || p.n <= p.meta.Size {
			return p, nil
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, errors.Join(err, f.Close())
	}
	if err := p.restart(partMeta{}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

func (p *part) metaPath() string { return p.path + ".part.json" }

// restart empties the part and notes what it is to be a part of.
func (p *part) restart(m partMeta) error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.hash.Reset()
	p.n, p.resumed, p.meta = 0, false, m
	if m == (partMeta{}) {
		if err := os.Remove(p.metaPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeFile(p.metaPath(), b)
}

// write appends b. After an error the part still knows what the file holds.
func (p *part) write(b []byte) error {
	n, err := p.f.Write(b)
	p.hash.Write(b[:n])
	p.n += int64(n)
	return err
}

func (p *part) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// whole reports whether nothing is missing.
func (p *part) whole() bool { return p.meta.Size > 0 && p.n == p.meta.Size }

// finish gives the file its name.
func (p *part) finish() error {
	if err := install(p.f, p.path); err != nil {
		return err
	}
	if err := os.Remove(p.metaPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// discard removes the part for good.
func (p *part) discard() error {
	err := errors.Join(p.f.Close(), os.Remove(p.f.Name()))
	if rerr := os.Remove(p.metaPath()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// keep leaves the part for a later pull, unless it is empty.
func (p *part) keep() error {
	if p.n == 0 {
		return p.discard()
	}
	return p.f.Close()
}

// partSize is how much of a file an earlier pull has left in dir.
func partSize(dir, name string) int64 {
	st, err := os.Stat(filepath.Join(dir, name+".part"))
	if err != nil {
		return 0
	}
	return st.Size()
}
