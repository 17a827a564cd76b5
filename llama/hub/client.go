package hub

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	defaultEndpoint = "https://huggingface.co"
	maxRedirects    = 5
)

// newClient returns a client that checks redirects, on the transport of c where c is not nil, and a function that lets its
// connections go.
func newClient(c *http.Client) (*http.Client, func()) {
	var out http.Client
	done := func() {}
	if c != nil {
		out = *c
	} else if tr, ok := http.DefaultTransport.(*http.Transport); ok { // else a program has put its own there: let it be used
		tr = tr.Clone()
		tr.ResponseHeaderTimeout = 30 * time.Second
		out.Transport = tr
		done = tr.CloseIdleConnections
	}
	next := out.CheckRedirect
	out.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := checkRedirect(req, via); err != nil {
			return err
		}
		if next != nil {
			return next(req, via)
		}
		return nil
	}
	return &out, done
}

// checkRedirect follows a few redirects, none to a less protected place, and shows a token to the first host alone.
// net/http would pass it on to subdomains and to other ports.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%s: more than %d redirects: %w", shown(via[0].URL), maxRedirects, ErrUnavailable)
	}
	last := via[len(via)-1].URL
	if last.Scheme == "https" && req.URL.Scheme != "https" {
		return &insecureError{shown(last) + ": redirects from https to " + shown(req.URL) + "; the server is set up wrongly or is not to be trusted"}
	}
	if err := checkScheme(req.URL); err != nil {
		return err
	}
	// Once the way has left the first host, what comes back there is a wish of the other one.
	for _, r := range append(via[1:len(via):len(via)], req) {
		if r.URL.Scheme != via[0].URL.Scheme || r.URL.Host != via[0].URL.Host {
			req.Header.Del("Authorization")
			return nil
		}
	}
	return nil
}

// hubEndpoint is the address of the hub without a slash at its end.
func hubEndpoint(s string) (string, error) {
	if s == "" {
		s = os.Getenv("HF_ENDPOINT")
	}
	if s == "" {
		s = defaultEndpoint
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return "", fmt.Errorf("the hub's endpoint is not a complete https:// URL: %w; correct HF_ENDPOINT", ErrRef)
	}
	if err := checkScheme(u); err != nil {
		if errors.Is(err, ErrInsecure) {
			return "", err
		}
		return "", fmt.Errorf("the hub's endpoint: %w", err)
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), nil
}
