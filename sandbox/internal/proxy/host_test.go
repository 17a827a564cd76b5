package proxy

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAuthority(t *testing.T) { // 94
	for text, want := range map[string]string{ // "" is refused
		"allowed.com":                    "allowed.com:443",
		"allowed.com:8080":               "allowed.com:8080",
		"ALLOWED.com.":                   "allowed.com:443",
		"Allowed.Com.:80":                "allowed.com:80",
		"xn--bcher-kva.example":          "xn--bcher-kva.example:443",
		"a_b.example":                    "a_b.example:443",
		"10.0.0.1":                       "10.0.0.1:443",
		"[::1]:80":                       "[::1]:80",
		"[2001:DB8:0:0::1]":              "[2001:db8::1]:443",
		"[::ffff:10.0.0.1]":              "10.0.0.1:443",
		"[::ffff:a00:1]":                 "10.0.0.1:443",
		strings.Repeat("a", 63) + ".com": strings.Repeat("a", 63) + ".com:443",

		"": "", ".": "", "..": "", "allowed.com..": "", ".allowed.com": "", "allowed..com": "",
		"user@allowed.com": "", "user:pw@allowed.com": "", "allowed.com@evil.com": "", "allowed.com:80@evil.com": "",
		"allowed.com/": "", "allowed.com#evil.com": "", "allowed.com?evil.com": "", "allowed.com\\@evil.com": "",
		"allowed.com%00.evil.com": "", "allowed.com\x00.evil.com": "", "allowed.com evil.com": "", "allowed.com\t": "",
		"allowed.com\r\nHost: evil.com": "", "allowed%2ecom": "", "allowed。com": "", "аllowed.com": "", "ALLOWED．com": "",
		"-allowed.com": "", "allowed-.com": "", "*.com": "", "*": "",
		strings.Repeat("a", 64) + ".com": "", strings.Repeat("a.", 127) + "com": "",
		"allowed.com:": "", "allowed.com:0": "", "allowed.com:65536": "", "allowed.com:080": "", "allowed.com:+80": "",
		"allowed.com:80:80": "", "allowed.com:http": "", "allowed.com:８０": "",
		// What inet_aton takes for 127.0.0.1 or 10.0.0.1.
		"2130706433": "", "0x7f000001": "", "0x7f.1": "", "0177.0.0.1": "", "127.1": "", "127.0.1": "", "017700000001": "",
		"127.0.0.01": "", "10.0.0.1.": "", "0x0a.0x0.0x0.0x1": "", "10.0.0.256": "", "1.2.3.4.5": "", "127.0.0.0x1": "",
		"::1": "", "[::1": "", "::1]": "", "[::1]x": "", "[fe80::1%eth0]": "", "[fe80::1%25eth0]": "", "[127.0.0.1]": "",
		"[allowed.com]": "", "[]": "", "[::ffff:10.0.0.01]": "", "[v1.x]": "",
	} {
		d, err := ParseAuthority(text, 443)
		if want == "" {
			require.Error(t, err, "%q gave %v", text, d)
			continue
		}
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, d.authority())
	}
	_, err := ParseAuthority("allowed.com", 0)
	require.Error(t, err, "CONNECT needs a port")
}

// What is understood here is what net/url understands, and has one spelling.
func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"a.b:1", "[::1]:2", "[::ffff:1.2.3.4]:5", "1.2.3.4", "A.", "0x7f.1", "u@h", "xn--a:443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseAuthority(text, 443)
		if err != nil {
			return
		}
		again, err := ParseAuthority(d.authority(), 0)
		if err != nil || again != d {
			t.Fatalf("%q is %v, and that is %v, %v", text, d, again, err)
		}
		u, err := url.Parse("http://" + text + "/")
		if err != nil || u.User != nil {
			t.Fatalf("%q: net/url: %v, %v", text, u, err)
		}
		if d.Name != "" && d.Name != strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") {
			t.Fatalf("%q is %q and for net/url %q", text, d.Name, u.Hostname())
		}
		if (d.Name == "") != d.Addr.IsValid() || d.Addr.Is4In6() || d.Port == 0 {
			t.Fatalf("%q is %+v", text, d)
		}
	})
}
