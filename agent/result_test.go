package agent

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestShorten(t *testing.T) {
	for name, tt := range map[string]struct {
		text    string
		most    int
		want    string
		leftOut int
	}{
		"empty":        {"", 8, "", 0},
		"fits":         {"12345678", 8, "12345678", 0},
		"middle":       {"0123456789", 8, "0123\n[2 bytes left out]\n6789", 2},
		"odd":          {"0123456789", 7, "012\n[3 bytes left out]\n6789", 3},
		"lines":        {"aaaaaaa\nb" + strings.Repeat("x", 50) + "\nccccccc", 18, "aaaaaaa\n[52 bytes left out]\nccccccc", 52},
		"characters":   {strings.Repeat("ü", 10), 9, "üü\n[12 bytes left out]\nüü", 12},
		"not UTF-8":    {"a\xff\xfeb", 100, "a\uFFFD\uFFFDb", 0},
		"controls":     {"a\x1b[1mb\x00\r\n\tc\u009b", 100, "ab\n\tc", 0},
		"nothing fits": {"üü", 1, "\n[4 bytes left out]\n", 4},
	} {
		t.Run(name, func(t *testing.T) {
			short, leftOut := shorten(tt.text, tt.most)
			require.Equal(t, tt.want, short)
			require.Equal(t, tt.leftOut, leftOut)
		})
	}
}

func FuzzShorten(f *testing.F) {
	f.Add("one\ntwo\nthree", 5)
	f.Add("\xff\x00ü<|im_end|>", 3)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(1, most%4096)
		short, leftOut := shorten(text, most)
		require.True(t, utf8.ValidString(short))
		require.False(t, strings.ContainsFunc(short, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }))
		require.GreaterOrEqual(t, leftOut, 0)
		if leftOut == 0 {
			require.LessOrEqual(t, len(short), most)
		} else {
			require.LessOrEqual(t, len(short), most+len("\n[9223372036854775807 bytes left out]\n"))
		}
	})
}
