package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proxy"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
)

// Where the proxy listens inside; as in network.c.
const (
	proxyHTTP  = "http://127.0.0.1:3128"
	proxyLocal = "localhost,127.0.0.1,::1"
)

// proxyPatience is how long a function of the caller's may hold up the end.
const proxyPatience = 2 * time.Second

// network checks Net and Allow.
func (c *Config) network() (proto.Network, error) {
	a := &c.Allow
	if c.Net != NetAllowList && (len(a.Rules) > 0 || len(a.Private) > 0) {
		return 0, &ErrConfig{"Allow", "set, but Net is not NetAllowList"}
	}
	switch c.Net {
	case NetNone:
		return proto.NetworkOwn, nil
	case NetHost:
		return proto.NetworkHost, nil
	case NetAllowList:
		_, err := a.proxy()
		return proto.NetworkProxy, err
	}
	return 0, &ErrConfig{"Net", fmt.Sprintf("no such network: %d", int(c.Net))}
}

// proxy checks the list and fills in defaults.
func (a *AllowList) proxy() (proxy.Config, error) {
	c := proxy.Config{
		Rules: &proxy.Rules{Private: a.Private}, MaxConns: a.MaxConns, MaxBytes: a.MaxBytes, IdleTimeout: a.IdleTimeout,
		VerifySNI: a.VerifySNI, Resolve: a.Resolve, Dial: a.Dial,
	}
	for i, text := range a.Rules {
		r, err := proxy.ParseRule(text)
		if err != nil {
			return c, &ErrConfig{fmt.Sprintf("Allow.Rules[%d]", i), fmt.Sprintf("%.64q: %v", text, err)}
		}
		c.Rules.Rules = append(c.Rules.Rules, r)
	}
	for i, p := range a.Private {
		if err := proxy.CheckPrefix(p); err != nil {
			return c, &ErrConfig{fmt.Sprintf("Allow.Private[%d]", i), err.Error()}
		}
	}
	for _, bound := range []struct {
		field string
		value int64
	}{{"MaxConns", int64(a.MaxConns)}, {"MaxBytes", a.MaxBytes}, {"IdleTimeout", int64(a.IdleTimeout)}} {
		if bound.value < 0 {
			return c, &ErrConfig{"Allow." + bound.field, "negative"}
		}
	}
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = DefaultIdleTimeout
	}
	if c.Resolve == nil {
		c.Resolve = proxy.Resolve
	}
	if c.Dial == nil {
		c.Dial = proxy.Dial
	}
	if a.Notify != nil {
		c.Notify = func(r proxy.Record) { a.Notify(NetRecord(r)) }
	}
	return c, nil
}

// proxyEnvironment tells programs of the proxy. ALL_PROXY is not the SOCKS one: with that
// httpx and others refuse to start unless a further package is installed.
func (c *Config) proxyEnvironment(env map[string]string) {
	if c.Net != NetAllowList {
		return
	}
	maps.Copy(env, map[string]string{
		"HTTP_PROXY": proxyHTTP, "HTTPS_PROXY": proxyHTTP, "ALL_PROXY": proxyHTTP, "NO_PROXY": proxyLocal,
		"http_proxy": proxyHTTP, "https_proxy": proxyHTTP, "all_proxy": proxyHTTP, "no_proxy": proxyLocal,
		"NODE_USE_ENV_PROXY": "1",
	})
}

// netLacks is what a network that was asked for does without.
func (c *Config) netLacks(kernel proto.Lack) []string {
	if c.Net != NetHost {
		return nil
	}
	line := "network namespace: the network is the host's, as Config.Net asks"
	if kernel&(proto.LackLandlock|proto.LackScopes) != 0 {
		line += "; so are abstract Unix sockets"
	}
	return []string{line}
}

// serveProxy starts the proxy of a sandbox that has one.
func (p *process) serveProxy(c *Config) error {
	if c.Net != NetAllowList {
		return nil
	}
	config, err := c.Allow.proxy()
	if err != nil {
		return err
	}
	http, err := listener(p.lent[proto.FileHTTP])
	if err != nil {
		return err
	}
	socks, err := listener(p.lent[proto.FileSOCKS])
	if err != nil {
		http.Close()
		return err
	}
	p.proxy = proxy.Serve(config, http, socks)
	return nil
}

func listener(f *os.File) (net.Listener, error) {
	const stage = "take over the ports of the proxy"
	if f == nil {
		return nil, &ErrSetup{stage, "the helper sent none", errors.New("it is of another release")}
	}
	defer f.Close() // FileListener has its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, &ErrSetup{stage, "a listening socket", err}
	}
	return l, nil
}

// closeProxy ends all connections.
func (p *process) closeProxy() {
	if p.proxy != nil {
		p.proxy.Close(proxyPatience)
	}
}

// net are the records until now.
func (p *process) net() ([]NetRecord, bool) {
	if p.proxy == nil {
		return nil, false
	}
	records, more := p.proxy.Records()
	out := make([]NetRecord, len(records))
	for i, r := range records {
		out[i] = NetRecord(r)
	}
	return out, more > 0
}

// maxHosts bounds what is copied of the host's /etc/hosts.
const maxHosts = 1 << 20

// hostResolver are the files by which the host finds names, for a sandbox on its network.
func hostResolver() (map[string]string, error) {
	files := map[string]string{}
	for _, name := range []string{"resolv.conf", "hosts"} {
		b, err := os.ReadFile("/etc/" + name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, &ErrConfig{"Net", "/etc/" + name + " of the host: " + reason(err)}
		}
		if len(b) > maxHosts {
			return nil, &ErrConfig{"Net", fmt.Sprintf("/etc/%s of the host is longer than %d bytes", name, maxHosts)}
		}
		files[name] = string(b)
	}
	files["hosts"] = "127.0.0.1 " + rootfs.Hostname + "\n" + files["hosts"]
	return files, nil
}
