package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reference is a parsed model reference. Exactly one of known, url, repo and path is set.
type reference struct {
	text  string // canonical form, fit to be shown and stored: a URL has lost its query
	known *known
	url   *url.URL
	repo  string // OWNER/REPO
	spec  string // FILE or QUANT of a repo, "" = choose
	path  string
}

// A hub allows letters, digits, dots, dashes and underscores in the names of owners and repositories.
var hubName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)

func parseRef(s string) (reference, error) {
	if s == "" {
		s = defaultRef
	}
	if k, ok := lookup(s); ok {
		return reference{text: s, known: &k}, nil
	}
	if rest, ok := strings.CutPrefix(s, "hf:"); ok {
		return parseHubRef(s, rest)
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && !strings.ContainsAny(scheme, "/.") {
		return parseURLRef(s)
	}
	return reference{text: s, path: s}, nil
}

func parseHubRef(s, rest string) (reference, error) {
	repo, spec, hasSpec := strings.Cut(rest, ":")
	owner, name, _ := strings.Cut(repo, "/")
	if !hubName.MatchString(owner) || !hubName.MatchString(name) || strings.Contains(repo, "..") {
		return reference{}, &RefError{s, "a hub reference is hf:OWNER/REPO, hf:OWNER/REPO:FILE or hf:OWNER/REPO:QUANT"}
	}
	if hasSpec && !safePath(spec) {
		return reference{}, &RefError{s, "after hf:" + repo + ": comes the path of a .gguf file in the repository or a quantisation such as Q4_K_M"}
	}
	return reference{text: s, repo: repo, spec: spec}, nil
}

// safePath reports whether p is a clean relative path that stays below its root and may be shown on a terminal.
func safePath(p string) bool {
	return p != "." && p == path.Clean(p) && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsAny(p, "\\:?#") && utf8.ValidString(p) && !strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) })
}

func parseURLRef(s string) (reference, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return reference{}, &RefError{s, "it is not a complete URL"}
	}
	u.Fragment, u.RawFragment = "", ""
	if u.User != nil {
		return reference{}, &RefError{s, "a URL with a user name or password is refused, since it would end in logs"}
	}
	if err := checkScheme(u); err != nil {
		return reference{}, err
	}
	return reference{text: shown(u), url: u}, nil
}

// checkScheme allows https everywhere and http only where nobody can listen in.
func checkScheme(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return &insecureError{shown(u) + ": plain http is for loopback addresses only; use https"}
	}
	return &RefError{shown(u), "the scheme " + u.Scheme + " is not supported; use https"}
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// shown is a URL as errors, manifests and lists may have it: without its query, which may hold a signature or a key.
func shown(u *url.URL) string {
	c := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.RawQuery != "" {
		return c.String() + "?…"
	}
	return c.String()
}

// insecureError is ErrInsecure with the place and the remedy.
type insecureError struct{ reason string }

func (e *insecureError) Error() string { return e.reason }

func (e *insecureError) Is(target error) bool { return target == ErrInsecure }

var unsafeChars = regexp.MustCompile(`[^A-Za-z0-9._+-]+`)

// fileName turns the last element of a path that came from outside into a name that is safe in the cache. The end is what
// is kept of a long name: llama.cpp finds the parts of a split model by it.
func fileName(p string) string {
	n := unsafeChars.ReplaceAllString(path.Base(p), "_")
	if !strings.HasSuffix(strings.ToLower(n), ".gguf") {
		n += ".gguf"
	}
	const longest = 200 // of the 255 bytes of most file systems, leaving room for .part.json
	if len(n) > longest {
		n = n[len(n)-longest:]
	}
	if n = strings.TrimLeft(n, ".-"); strings.EqualFold(n, "gguf") {
		return "model.gguf"
	}
	return n
}

// dirName is a readable directory name that differs wherever id does.
func dirName(label, id string) string {
	const longest = 100
	n := strings.Trim(unsafeChars.ReplaceAllString(label, "-"), ".-")
	if len(n) > longest {
		n = n[:longest]
	}
	sum := sha256.Sum256([]byte(id))
	return n + "-" + hex.EncodeToString(sum[:8])
}
