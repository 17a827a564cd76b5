package sandbox

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// Class E, 81 and 82: what output does to a terminal, it does not do to its reader.
func TestPlain(t *testing.T) {
	long := strings.Repeat("long ", 30000)
	for name, tc := range map[string]struct{ in, want string }{
		"text":                    {"a\tb\né€😀 עברית\n", "a\tb\né€😀 עברית\n"},
		"nothing":                 {"", ""},
		"colours":                 {"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[m \x1b[4:3mcurly", "red rgb curly"},
		"clipboard":               {"a\x1b]52;c;cm0gLXJmIC8=\ab", "ab"},
		"title":                   {"a\x1b]0;title\x1b\\b\x1b]2;Ü\u009cc", "abc"},
		"link":                    {"\x1b]8;;file:///etc/passwd\acl\x1b]8;;\aick", "click"},
		"where is the cursor":     {"a\x1b[6nb\x1b[cc\x1b[>0q\x1b[?25l", "abc"},
		"reset":                   {"a\x1bcb\x1b(0c\x1b#8d\x1b%G\x1b 7e", "abcde"},
		"device control":          {"a\x1bP+q544e\x1b\\b\x1bPtmux;\x1b\x1b]52;c;x\a\x1b\\c", "abc"},
		"sixel":                   {"a\x1bPq#0;2;0;0;0#0~~@@vv\x1b\\b", "ab"},
		"application, privacy":    {"a\x1b_Ga=T;AAAA\x1b\\b\x1b^secret\x1b\\c\x1bXstart\x1b\\d", "abcd"},
		"8-bit, as bytes":         {"a\x9b31mb\x9d0;t\x9cc\x90q\x9cd\x9fx\x9ce\x9ey\x9cf\x98z\x9cg", "abcdefg"},
		"8-bit, as UTF-8":         {"a\u009b31mb\u009d0;t\u009cc\u0090q\ad\u009fx\u009ce\u0085f", "abcdef"},
		"unterminated CSI":        {"a\x1b[31", "a"},
		"CSI cut by a newline":    {"a\x1b[31\nb", "a\nb"},
		"CSI cut by another":      {"a\x1b[31\x1b[32mb", "ab"},
		"CSI cut by a letter é":   {"a\x1b[31éb", "aéb"},
		"CSI without an end":      {"a\x1b[" + strings.Repeat("0", 100000) + "mb", "ab"},
		"unterminated OSC":        {"a\x1b]0;title\nb\nc", "a\nb\nc"},
		"unterminated DCS at end": {"a\x1bPxyz", "a"},
		"cancelled string":        {"a\x1b]0;x\x18b\x1bPx\x1ac", "abc"},
		"ESC at the end":          {"a\x1b", "a"},
		"ESC ESC":                 {"a\x1b\x1b[31mb\x1bé", "abé"},
		"nested":                  {"\x1b\x1b[[31mx\x1b[\x1b]0;y\az", "31mxz"},
		"CR LF":                   {"a\r\nb\r\n\r\n", "a\nb\n\n"},
		"progress":                {"10%\r20%\r100%\ndone", "100%\ndone"},
		"progress that shrinks":   {"downloading\r\x1b[Kok\n", "ok\n"},
		"progress, whole line":    {"downloading\x1b[2K\x1b[1Gok\n", "ok\n"},
		"CR, shorter":             {"abcdef\rxy\n", "xycdef\n"},
		"overstrike":              {"N\bNA\bAM\bME\bE _\bu_\bl\n", "NAME ul\n"},
		"too many backspaces":     {"\b\bab\b\b\b\bc\n", "cb\n"},
		"form feed":               {"a\vb\fc", "a\nb\nc"},
		"bell and NUL":            {"a\x00b\ac\x0e\x0f\x05\x7fd", "abcd"},
		"no UTF-8":                {"a\xffbc\xe2(d\xf0\x9f\x98e", "a\uFFFDbc\uFFFD(d\uFFFDe"},
		"lone surrogate":          {"a\xed\xa0\x9d]b\xed\xa0\x80c", "a\uFFFD]b\uFFFDc"},
		"overlong":                {"a\xc0\x9bb\xe0\x80\x9bc\xf8\x88\x80\x80d", "a\uFFFDb\uFFFDc\uFFFDd"},
		"cut character":           {"a€\xe2\x82", "a€"},
		"cut emoji":               {"a\xf0\x9f\x98", "a"},
		"a long line":             {long, long},
		"CR in a long line":       {long + "\rX", long + "X"},
	} {
		t.Run(name, func(t *testing.T) {
			want := tc.want
			if name == "CR in a long line" { // as far back as the last 65536 characters
				at := len(long) / longestLine * longestLine
				want = long[:at] + "X" + long[at+1:]
			}
			got := Plain([]byte(tc.in))
			require.Equal(t, want, got)
			require.Equal(t, got, Plain([]byte(got)))
			b, err := json.Marshal(got)
			require.NoError(t, err)
			var back string
			require.NoError(t, json.Unmarshal(b, &back))
			require.Equal(t, got, back)
		})
	}
}

type failing struct{ calls int }

var errFailing = errors.New("no")

func (f *failing) Write([]byte) (int, error) {
	f.calls++
	return 0, errFailing
}

func TestPlainWriterFails(t *testing.T) {
	f := &failing{}
	w := NewPlainWriter(f)
	n, err := w.Write([]byte("part"))
	require.NoError(t, err, "the line has no end yet")
	require.Equal(t, 4, n)
	for range 2 {
		_, err = w.Write([]byte("\nx\n"))
		require.ErrorIs(t, err, errFailing)
	}
	require.ErrorIs(t, w.Close(), errFailing)
	require.Equal(t, 1, f.calls)
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"a\x1b[31mb", "\x1b]52;c;x\a", "\x9b\x9d\xc2\x9b", "a\rb\bc\x1b[K\x1b[2K", "\xf0\x9f\x98", "\xed\xa0\x80\x9d", "\x1bP\x1b\\\x1b_\x1b^\x1bX", "a\r\n\v\f\x00\x85",
	} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, split int) {
		text := Plain(b)
		require.True(t, utf8.ValidString(text))
		for _, r := range text {
			require.False(t, unicode.IsControl(r) && r != '\n' && r != '\t', "%q", r)
		}
		require.Equal(t, text, Plain([]byte(text)))
		var streamed strings.Builder
		w := NewPlainWriter(&streamed)
		for rest := b; len(rest) > 0; {
			n := min(max(split, 1), len(rest))
			got, err := w.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, got)
			rest = rest[n:]
		}
		require.NoError(t, w.Close())
		require.Equal(t, text, streamed.String())
	})
}
