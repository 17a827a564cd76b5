package hub

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRef(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "known default",
		"default":                              "known default",
		"gemma3-270m":                          "known gemma3-270m",
		"./default":                            "path ./default",
		"Default":                              "path Default",
		"m.gguf":                               "path m.gguf",
		"/a/b.gguf":                            "path /a/b.gguf",
		"a:b":                                  "path a:b",
		"./a://b":                              "path ./a://b",
		"https://h.example/m.gguf":             "url https://h.example/m.gguf",
		"HTTPS://h.example/m.gguf":             "url https://h.example/m.gguf",
		"https://h.example/m.gguf#part":        "url https://h.example/m.gguf",
		"https://h.example/m.gguf?sig=key":     "url https://h.example/m.gguf?…",
		"https://h.example":                    "url https://h.example",
		"http://127.0.0.1:1/m.gguf":            "url http://127.0.0.1:1/m.gguf",
		"http://127.9.9.9/m.gguf":              "url http://127.9.9.9/m.gguf",
		"http://[::1]/m.gguf":                  "url http://[::1]/m.gguf",
		"http://localhost/m.gguf":              "url http://localhost/m.gguf",
		"http://h.example/m.gguf":              "insecure",
		"http://127.0.0.1.h.example/m.gguf":    "insecure",
		"http://10.0.0.1/m.gguf":               "insecure",
		"https://u:secret@h.example/m.gguf":    "bad",
		"https:///m.gguf":                      "bad",
		"https://h.example/%zz":                "bad",
		"https://h.example/\x1b":               "bad",
		"ftp://h.example/m.gguf":               "bad",
		"file:///etc/passwd":                   "bad",
		"hf:o/r":                               "hub o/r ",
		"hf:o/r:Q4_K_M":                        "hub o/r Q4_K_M",
		"hf:o/r:sub/m.gguf":                    "hub o/r sub/m.gguf",
		"hf:Or-g_1/re.po-2:m+f 1.gguf":         "hub Or-g_1/re.po-2 m+f 1.gguf",
		"hf:":                                  "bad",
		"hf:o":                                 "bad",
		"hf:o/":                                "bad",
		"hf:/r":                                "bad",
		"hf:o/r/x":                             "bad",
		"hf:o/..":                              "bad",
		"hf:../r":                              "bad",
		"hf:o/r?x=1":                           "bad",
		"hf:o/r:":                              "bad",
		"hf:o/r:/etc/passwd":                   "bad",
		"hf:o/r:../../m.gguf":                  "bad",
		"hf:o/r:a//b.gguf":                     "bad",
		"hf:o/r:a\\b.gguf":                     "bad",
		"hf:o/r:a\nb.gguf":                     "bad",
		"hf:o/r:a:b":                           "bad",
		"hf:" + strings.Repeat("o", 97) + "/r": "bad",
	} {
		t.Run(in, func(t *testing.T) {
			r, err := parseRef(in)
			var got string
			switch {
			case err != nil && strings.HasPrefix(in, "http:"):
				require.ErrorIs(t, err, ErrInsecure)
				got = "insecure"
			case err != nil:
				require.ErrorIs(t, err, ErrRef)
				require.NotContains(t, err.Error(), "secret")
				got = "bad"
			case r.known != nil:
				got = "known " + r.text
			case r.url != nil:
				got = "url " + r.text
			case r.repo != "":
				got = "hub " + r.repo + " " + r.spec
			default:
				got = "path " + r.path
			}
			require.Equal(t, want, got)
		})
	}
}

func TestFileName(t *testing.T) {
	long := strings.Repeat("x", 300)
	for in, want := range map[string]string{
		"a/b/Model-Q4_K_M.gguf":            "Model-Q4_K_M.gguf",
		"M.GGUF":                           "M.GGUF",
		"model.bin":                        "model.bin.gguf",
		"":                                 "model.gguf",
		"/":                                "_.gguf",
		"..":                               "model.gguf",
		"../..":                            "model.gguf",
		".gguf":                            "model.gguf",
		".hidden.gguf":                     "hidden.gguf",
		"-rf.gguf":                         "rf.gguf",
		"a b\x00ü\n.gguf":                  "a_b_.gguf",
		long + "-00001-of-00002.gguf":      long[:200-20] + "-00001-of-00002.gguf",
		strings.Repeat("é", 300) + ".gguf": "_.gguf",
	} {
		got := fileName(in)
		require.Equal(t, want, got, in)
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"", "default", "hf:o/r:Q4_K_M", "hf:o/r:../x", "https://u@h/x?y#z", "http://127.0.0.1/%2e%2e%2fx", "x\x00y", "hf:a/b:c/d.gguf", "http://[::ffff:127.0.0.1]/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRef(s)
		if err != nil {
			return
		}
		set := 0
		for _, is := range []bool{r.known != nil, r.url != nil, r.repo != "", r.path != ""} {
			if is {
				set++
			}
		}
		require.Equal(t, 1, set, "one kind of reference")
		switch {
		case r.url != nil:
			require.Nil(t, r.url.User)
			require.True(t, r.url.Scheme == "https" || r.url.Scheme == "http" && isLoopback(r.url.Hostname()))
			back, err := url.Parse(r.url.String())
			require.NoError(t, err)
			require.Equal(t, r.url.Host, back.Host)
			requireInside(t, urlDir(r.url))
			requireInside(t, fileName(r.url.Path))
			if target, err := resolveURL(r); err == nil {
				for _, f := range target.files {
					requireInside(t, f.name)
				}
			}
		case r.repo != "":
			require.Equal(t, 1, strings.Count(r.repo, "/"))
			require.NotContains(t, r.repo+r.spec, "\\")
			if r.spec != "" {
				require.True(t, filepath.IsLocal(r.spec), r.spec)
			}
			requireInside(t, dirName(hubDirs+r.repo, r.text))
		}
		n := fileName(s)
		requireInside(t, n)
		require.Equal(t, n, fileName(n))
	})
}

// requireInside checks that a name stays in the directory it is joined to, and is not hidden there.
func requireInside(t *testing.T, name string) {
	t.Helper()
	require.NotContains(t, name, "/")
	require.True(t, filepath.IsLocal(name), name)
	require.False(t, strings.HasPrefix(name, "."), name)
	require.LessOrEqual(t, len(name), 230)
}
