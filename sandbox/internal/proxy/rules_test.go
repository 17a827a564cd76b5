package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func rules(t testing.TB, texts ...string) *Rules {
	t.Helper()
	r := &Rules{}
	for _, text := range texts {
		one, err := ParseRule(text)
		require.NoError(t, err, text)
		r.Rules = append(r.Rules, one)
	}
	return r
}

func TestMatch(t *testing.T) { // 94
	for _, row := range []struct{ rule, yes, no string }{
		{"allowed.com", "allowed.com:80 allowed.com:443 ALLOWED.COM.:443",
			"allowed.com:8080 www.allowed.com:443 evil-allowed.com:443 allowed.com.evil.com:443 evil.com.allowed.com:443 xallowed.com:443 com:443 allowed.co:443 1.2.3.4:443"},
		{"Allowed.COM.", "allowed.com:443", "a.allowed.com:443"},
		{"allowed.com:22", "allowed.com:22", "allowed.com:443 allowed.com:80 allowed.com:2222"},
		{"allowed.com:*", "allowed.com:1 allowed.com:65535", "b.com:1"},
		{"*.allowed.com", "a.allowed.com:443 a.b.allowed.com:80 evil.com.allowed.com:443",
			"allowed.com:443 aallowed.com:443 a.allowed.com.evil.com:443 a.allowed.com:8443"},
		{"*.allowed.com:8443", "a.allowed.com:8443", "a.allowed.com:443"},
		{"*", "a.com:443 localhost:80", "a.com:22 1.2.3.4:443 [2606::1]:443 10.0.0.1:80"},
		{"*:*", "a.com:22", "1.2.3.4:443 10.0.0.1:22"},
		{"bücher.example", "xn--bcher-kva.example:443", "bucher.example:443"},
		{"*.bücher.example", "a.xn--bcher-kva.example:443", "xn--bcher-kva.example:443"},
		{"xn--bcher-kva.example", "XN--BCHER-KVA.example:443", "bcher-kva.example:443"},
		{"8.8.8.8", "8.8.8.8:443 [::ffff:8.8.8.8]:443", "8.8.8.9:443 8.8.8.8:53 dns.google:443"},
		{"8.8.8.8:53", "8.8.8.8:53", "8.8.8.8:443"},
		{"::ffff:8.8.8.8", "8.8.8.8:443", "[::8.8.8.8]:443"},
		{"8.8.0.0/16:53", "8.8.4.4:53", "8.9.0.0:53"},
		{"10.0.0.0/8", "10.1.2.3:80", "11.0.0.1:80 192.168.0.1:80"},
		{"10.1.0.0/16:5432", "10.1.2.3:5432 [::ffff:10.1.2.3]:5432", "10.2.0.1:5432 10.1.2.3:80"},
		{"127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.2:8080 [::1]:8080 localhost:8080"},
		{"0.0.0.0/0", "8.8.8.8:443", "10.0.0.1:443 127.0.0.1:443 169.254.169.254:80 100.64.0.1:443 0.0.0.0:443 255.255.255.255:443 168.63.129.16:80 224.0.0.1:80"},
		{"0.0.0.0/1", "8.8.8.8:443", "10.0.0.1:443"},
		{"8.0.0.0/5", "8.8.8.8:443 15.0.0.1:443", "10.0.0.1:443"}, // wider than 10/8, around it
		{"169.254.169.254", "169.254.169.254:80", "169.254.169.253:80"},
		{"2606:4700::/32", "[2606:4700::1]:443", "[2606:4701::1]:443"},
		{"[2606:4700::/32]:853", "[2606:4700::1]:853", "[2606:4700::1]:443"},
		{"[::1]:80", "[::1]:80", "[::1]:443 127.0.0.1:80"},
		{"::1", "[::1]:80", "[::2]:80"},
		{"fd00:ec2::254", "[fd00:ec2::254]:80", "[fd00:ec2::253]:80"},
		{"::/0", "[2606::1]:443", "[::1]:443 [fd00::1]:443 [fe80::1]:443 [64:ff9b::a00:1]:443 [2002:a00:1::]:443 [2001:0:1::]:443 [::ffff:10.0.0.1]:443 [::ffff:8.8.8.8]:443 [::10.0.0.1]:443 [::]:443 [ff02::1]:443 [4000::1]:443 8.8.8.8:443"},
		{"64:ff9b::/96", "[64:ff9b::808:808]:443", "8.8.8.8:443"},
	} {
		r := rules(t, row.rule)
		for _, text := range strings.Fields(row.yes) {
			d, err := ParseAuthority(text, 0)
			require.NoError(t, err, text)
			rule, ok := r.match(d)
			require.True(t, ok, "%s is to allow %s", row.rule, text)
			require.Equal(t, row.rule, rule)
		}
		for _, text := range strings.Fields(row.no) {
			d, err := ParseAuthority(text, 0)
			require.NoError(t, err, text)
			_, ok := r.match(d)
			require.False(t, ok, "%s is not to allow %s", row.rule, text)
		}
	}
	_, ok := (&Rules{}).match(Dest{Name: "a.com", Port: 443})
	require.False(t, ok, "no rules allow nothing")
}

func TestBadRules(t *testing.T) {
	for _, text := range []string{
		"", " ", "a b", "https://a.com", "a.com/path", "a.com:", "a.com:0", "a.com:65536", "a.com:080", "a.com:http", "a.com:80-90", ":80",
		"*.*.com", "a.*.com", "*a.com", "*.", "**", ".a.com", "a..com", "a.com..", "user@a.com", "a.com,b.com", "!a.com", "a.com\n",
		"127.1", "0x7f.1", "2130706433", "010.0.0.1", "*.1.2.3.4", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "[10.0.0.1]", "[10.0.0.0/8]:80",
		"[::1", "fe80::1%eth0", "[fe80::1%eth0]:80", "::1/64", "[fd00::]/8:80", "::ffff:10.0.0.0/104", "0.0.0.0", "0.0.0.0/8", "255.255.255.255",
		"224.0.0.1", "ff02::1", "::", "4000::/3", "Bücher.example", "bücher.example", "a\u200bb.com", "ａ.com", "xn--ü.com", "аllowed.com", "-a.com",
	} {
		r, err := ParseRule(text)
		if text == "bücher.example" || text == "аllowed.com" { // the second begins with a Cyrillic letter: another, registered, name
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(r.name, "xn--"))
			continue
		}
		require.Error(t, err, "%q", text)
	}
}

func TestSpecialAddresses(t *testing.T) { // 91, 95
	named := &Rules{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	byRule := rules(t, "169.254.169.254", "127.0.0.1:8080")
	for text, want := range map[string][3]bool{ // refused by: no Private, named, byRule
		"8.8.8.8": {}, "2606:4700::1": {},
		"10.1.2.3": {true, false, true}, "127.0.0.1": {true, true, false}, "169.254.169.254": {true, true, true},
		"192.168.1.1": {true, true, true}, "172.16.0.1": {true, true, true}, "172.32.0.1": {}, "100.100.100.200": {true, true, true},
		"168.63.129.16": {true, true, true}, "192.0.0.192": {true, true, true}, "0.0.0.0": {true, true, true}, "0.1.2.3": {true, true, true},
		"255.255.255.255": {true, true, true}, "239.0.0.1": {true, true, true}, "240.0.0.1": {true, true, true}, "198.19.0.1": {true, true, true},
		"::": {true, true, true}, "::1": {true, true, true}, "fd00:ec2::254": {true, true, true}, "fe80::1": {true, true, true}, "fec0::1": {true, true, true},
		"64:ff9b::7f00:1": {true, true, true}, "64:ff9b:1::1": {true, true, true}, "2002:7f00:1::": {true, true, true}, "2001::1": {true, true, true},
		"2001:db8::1": {true, true, true}, "::7f00:1": {true, true, true}, "100::1": {true, true, true}, "ff02::1": {true, true, true}, "5f00::1": {true, true, true},
	} {
		a := netip.MustParseAddr(text)
		got := [3]bool{}
		for i, r := range []*Rules{{}, named, byRule} {
			got[i] = r.refuses(a, 8080) != ""
		}
		require.Equal(t, want, got, text)
	}
}

// Whatever is allowed is the host of the rule, or below it, letter by letter.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"a.com:443", "x.b.org:8443", "10.1.1.1:80", "[2606:4700::1]:443", "a.com.evil:443", "[::ffff:10.1.2.3]:80"} {
		f.Add(s)
	}
	r := rules(f, "a.com", "*.b.org:8443", "10.1.0.0/16", "2606:4700::/32")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseAuthority(text, 443)
		if err != nil {
			return
		}
		rule, ok := r.match(d)
		if !ok {
			return
		}
		host := strings.ToLower(text)
		if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
			host = host[:i]
		}
		host = strings.TrimSuffix(host, ".")
		web := d.Port == 80 || d.Port == 443
		good := false
		switch rule {
		case "a.com":
			good = host == "a.com" && web
		case "*.b.org:8443":
			good = strings.HasSuffix(host, ".b.org") && !strings.ContainsAny(host, "/@#?%[]: \\") && d.Port == 8443
		case "10.1.0.0/16":
			good = web && strings.HasPrefix(d.Addr.String(), "10.1.")
		case "2606:4700::/32":
			good = web && strings.HasPrefix(d.Addr.StringExpanded(), "2606:4700:") && strings.HasPrefix(host, "[")
		}
		if !good {
			t.Fatalf("%q is allowed by %s as %v", text, rule, d)
		}
	})
}

// FuzzRule: a rule that is understood is understood again from its parts.
func FuzzRule(f *testing.F) {
	for _, s := range []string{"a.com", "*.a.com:*", "*:80", "10.0.0.0/8:1", "[fd00::/8]:443", "::1", "bücher.de"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		if r.prefix.IsValid() == (r.name != "" || r.below) {
			t.Fatalf("%q is %+v", text, r)
		}
		host := r.name
		switch {
		case r.prefix.IsValid():
			host = r.prefix.String()
			if r.prefix.Addr().Is6() {
				host = "[" + host + "]"
			}
		case r.name == "":
			host = "*"
		case r.below:
			host = "*." + r.name
		}
		port := map[bool]string{true: ":*"}[r.ports]
		if r.port != 0 {
			port = fmt.Sprintf(":%d", r.port)
		}
		again, err := ParseRule(host + port)
		again.text = r.text
		if err != nil || again != r {
			t.Fatalf("%q is %+v, and %q is %+v, %v", text, r, host+port, again, err)
		}
	})
}
