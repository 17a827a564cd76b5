package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard decides who may call, before any handler sees the request.
type guard struct {
	hosts   map[string]bool // lower case, without port
	keyHash [sha256.Size]byte
	hasKey  bool
}

// newGuard is for a checked address and key.
func newGuard(addr string, allowed []string, key string) (*guard, error) {
	g := &guard{hosts: map[string]bool{"localhost": true}, keyHash: sha256.Sum256([]byte(key)), hasKey: key != ""}
	listenHost, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	// "All addresses" is nobody's name: requests to one of them pass by hostAllowed.
	if ip, err := netip.ParseAddr(listenHost); listenHost != "" && (err != nil || !ip.IsUnspecified()) {
		g.hosts[canonicalHost(listenHost)] = true
	}
	for _, h := range allowed {
		name, ok := splitAuthority(h)
		if !ok || name == "*" {
			return nil, &OptionError{"AllowedHosts", "\"" + h + "\" is no host name or address"}
		}
		g.hosts[name] = true
	}
	return g, nil
}

// check returns nil for a request that may go on. open requests need no key.
func (g *guard) check(r *http.Request, open bool) error {
	if !g.hostAllowed(r) {
		return forbidden("foreign_host", "the Host %.100q is not one of this service: reach it as localhost, or start it with --allow-host", r.Host)
	}
	if err := checkOrigin(r); err != nil {
		return err
	}
	if !open && !g.keyMatches(r.Header) {
		return &apiError{
			status: http.StatusUnauthorized, kind: "authentication_error", code: "invalid_api_key",
			message: "the key is missing or wrong: send \"Authorization: Bearer KEY\"",
		}
	}
	return nil
}

// hostAllowed defeats DNS rebinding: a page of evil.example whose name was re-pointed
// at us still sends its own name as Host. An address is only accepted where the
// connection really arrived at it, a name where we know it.
func (g *guard) hostAllowed(r *http.Request) bool {
	host, ok := splitAuthority(r.Host)
	if !ok {
		return false
	}
	if g.hosts[host] {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" {
		return false
	}
	if ip.Unmap().IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == ip.Unmap()
}

// checkOrigin refuses what a browser sends on behalf of another site's page. Programs
// send neither header. Sec-Fetch-Site covers the requests that carry no Origin, such
// as an image or script of ours in a foreign page.
func checkOrigin(r *http.Request) error {
	foreign := forbidden("foreign_origin", "requests from web pages of other origins are refused")
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return foreign
		}
	}
	origins := r.Header.Values("Origin")
	switch len(origins) {
	case 0:
		return nil
	case 1:
		u, err := url.Parse(origins[0])
		// The scheme is not ours to know: a TLS proxy in front makes it https.
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Path == "" && u.User == nil &&
			strings.EqualFold(u.Host, r.Host) {
			return nil
		}
	}
	return foreign
}

// keyMatches compares hashes, so that neither the key's bytes nor its length can be
// told from the time it takes.
func (g *guard) keyMatches(h http.Header) bool {
	if !g.hasKey {
		return true
	}
	headers := h.Values("Authorization")
	if len(headers) != 1 {
		return false
	}
	scheme, key, ok := strings.Cut(headers[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(key)))
	return subtle.ConstantTimeCompare(sum[:], g.keyHash[:]) == 1
}

// splitAuthority returns the host of "host", "host:port", "[ip6]" or "[ip6]:port" in
// its canonical form.
func splitAuthority(authority string) (string, bool) {
	host := authority
	if _, err := netip.ParseAddr(host); err != nil {
		host = (&url.URL{Host: authority}).Hostname()
	}
	if host == "" || strings.ContainsAny(host, "/@?#\\ []") {
		return "", false
	}
	return canonicalHost(host), true
}

func canonicalHost(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// loopbackHost reports whether only this machine can reach host.
func loopbackHost(host string) bool {
	if canonicalHost(host) == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
