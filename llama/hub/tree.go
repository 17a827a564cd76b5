package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// hubDirs begins the names of the directories of hub models in the cache.
const hubDirs = "hf-"

const (
	maxTreePages = 50
	maxTreePage  = 32 << 20 // bytes
)

// treeEntry is a file in the answer of the hub to GET /api/models/OWNER/REPO/tree/REVISION.
type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"` // sha256
		Size int64  `json:"size"`
	} `json:"lfs"`
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (p *puller) resolveHub(ctx context.Context, r reference) (*target, error) {
	if p.noHub != nil {
		return nil, p.noHub
	}
	entries, err := p.tree(ctx, r.repo)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(r.repo, r.spec, entries)
	if err != nil {
		return nil, err
	}
	ref := "hf:" + r.repo + ":" + chosen[0].Path
	t := &target{ref: ref, dir: dirName(hubDirs+r.repo+"-"+path.Base(chosen[0].Path), ref)}
	for _, e := range chosen {
		u := p.endpoint + "/" + r.repo + "/resolve/main/" + (&url.URL{Path: e.Path}).EscapedPath()
		f := remote{name: fileName(e.Path), url: u, size: e.Size, token: p.token}
		if e.LFS != nil && sha256Hex.MatchString(e.LFS.OID) {
			f.sha256, f.size = e.LFS.OID, e.LFS.Size
		}
		t.files = append(t.files, f)
	}
	t.source = t.files[0].url
	return t, nil
}

// tree lists the files of a repository's main branch.
func (p *puller) tree(ctx context.Context, repo string) ([]treeEntry, error) {
	base, err := url.Parse(p.endpoint)
	if err != nil {
		return nil, err
	}
	u := base.JoinPath("api", "models", repo, "tree", "main")
	u.RawQuery = "recursive=true"
	var all []treeEntry
	for range maxTreePages {
		var page []treeEntry
		var next *url.URL
		err := p.try(ctx, u, func() int64 { return 0 }, func() error {
			var err error
			page, next, err = p.treePage(ctx, u)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if e.Type == "file" && safePath(e.Path) && strings.EqualFold(path.Ext(e.Path), ".gguf") {
				all = append(all, e)
			}
		}
		if next == nil {
			return all, nil
		}
		if next.Scheme != base.Scheme || next.Host != base.Host { // it would be shown the token
			return nil, &insecureError{shown(u) + ": the list of files goes on at another host, " + next.Host}
		}
		u = next
	}
	return nil, fmt.Errorf("%s: %w: the list of files has no end", shown(u), ErrUnavailable)
}

func (p *puller) treePage(ctx context.Context, u *url.URL) (page []treeEntry, next *url.URL, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.retry.stall, errStalled)
	defer cancel()
	req, err := p.request(ctx, u, p.token)
	if err != nil {
		return nil, nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, requestError(u, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, statusError(u, resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxTreePage))
	if err != nil {
		return nil, nil, &transientError{err: err}
	}
	if err := json.Unmarshal(b, &page); err != nil {
		return nil, nil, fmt.Errorf("%s: %w: the answer is not a hub's list of files (%w); check HF_ENDPOINT", shown(u), ErrUnavailable, err)
	}
	next, err = nextPage(u, resp.Header.Values("Link"))
	return page, next, err
}

var nextLink = regexp.MustCompile(`<([^<>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage reads the Link header of a paged answer (RFC 8288).
func nextPage(u *url.URL, links []string) (*url.URL, error) {
	for _, l := range links {
		if m := nextLink.FindStringSubmatch(l); m != nil {
			next, err := u.Parse(m[1])
			if err != nil {
				return nil, errors.Join(ErrUnavailable, err)
			}
			return next, nil
		}
	}
	return nil, nil
}
