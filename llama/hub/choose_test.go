package hub

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name, files, spec, want string // want: paths, or the error's sentinel name
	}{
		{"only one", "m.gguf", "", "m.gguf"},
		{"only one, odd quant", "m-IQ2_XXS.gguf", "", "m-IQ2_XXS.gguf"},
		{"Q4_K_M first", "m-Q8_0.gguf m-Q4_K_M.gguf m-Q4_K_S.gguf", "", "m-Q4_K_M.gguf"},
		{"then Q4_0", "m-Q8_0.gguf m-Q4_0.gguf m-f16.gguf", "", "m-Q4_0.gguf"},
		{"then Q8_0", "m-Q8_0.gguf m-f16.gguf", "", "m-Q8_0.gguf"},
		{"none preferred", "m-Q2_K.gguf m-f16.gguf", "", "ambiguous"},
		{"two of the preferred", "a-Q4_K_M.gguf b-Q4_K_M.gguf", "", "ambiguous"},
		{"a projector does not count", "m-f16.gguf mmproj-f16.gguf", "", "m-f16.gguf"},
		{"nor an importance matrix", "m-f16.gguf m.imatrix.gguf", "", "m-f16.gguf"},
		{"lower case", "m-q4_k_m.gguf m-q8_0.gguf", "Q4_K_M", "m-q4_k_m.gguf"},
		{"dots", "M.Q4_1.gguf M.Q4_1_X.gguf", "q4_1", "M.Q4_1.gguf"},
		{"underscore before", "m_q8_0.gguf m_q4_0.gguf", "Q8_0", "m_q8_0.gguf"},
		{"not the beginning of another", "m-Q4_K_M.gguf m-Q4_K_S.gguf", "Q4_K", "not found"},
		{"not the end of another", "m-IQ4_XS.gguf", "Q4_XS", "not found"},
		{"suffix after the quant", "m-Q4_K_M-imat.gguf m-Q8_0-imat.gguf", "Q4_K_M", "m-Q4_K_M-imat.gguf"},
		{"the end wins", "m-Q4_K_M.gguf m-Q4_K_M-imat.gguf", "Q4_K_M", "m-Q4_K_M.gguf"},
		{"prefix of the quant", "m-UD-Q4_K_XL.gguf m-Q4_K_M.gguf", "Q4_K_XL", "m-UD-Q4_K_XL.gguf"},
		{"folder of the quant", "Q8_0/m.gguf Q4_0/m.gguf", "Q8_0", "Q8_0/m.gguf"},
		{"meta characters", "m-Q8_0.gguf", ".*", "not found"},
		{"file", "m-Q8_0.gguf x/m-Q8_0.gguf", "x/m-Q8_0.gguf", "x/m-Q8_0.gguf"},
		{"file that is absent", "m-Q8_0.gguf", "n.gguf", "not found"},
		{"quant twice", "a-Q8_0.gguf b-Q8_0.gguf", "Q8_0", "ambiguous"},
		{"split", "m-Q8_0-00002-of-00002.gguf m-Q8_0-00001-of-00002.gguf", "Q8_0", "m-Q8_0-00001-of-00002.gguf m-Q8_0-00002-of-00002.gguf"},
		{"split by any part", "m-00001-of-00002.gguf m-00002-of-00002.gguf", "m-00002-of-00002.gguf", "m-00001-of-00002.gguf m-00002-of-00002.gguf"},
		{"split, last part missing", "m-00001-of-00002.gguf", "", "not found"},
		{"split, first part missing", "m-00002-of-00002.gguf", "", "not found"},
		{"split, a part too many", "m-00001-of-00001.gguf m-00002-of-00001.gguf", "", "not found"},
		{"split, other counts", "m-00001-of-00002.gguf m-00002-of-00003.gguf", "", "ambiguous"},
		{"nothing", "", "", "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var entries []treeEntry
			for f := range strings.FieldsSeq(c.files) {
				entries = append(entries, treeEntry{Path: f})
			}
			got, err := choose("o/r", c.spec, entries)
			switch c.want {
			case "ambiguous":
				var ae *AmbiguousError
				require.ErrorAs(t, err, &ae)
				require.ErrorIs(t, err, ErrAmbiguous)
				require.GreaterOrEqual(t, len(ae.Candidates), 2)
				for _, p := range ae.Candidates {
					require.Contains(t, c.files, p)
					require.ErrorContains(t, err, p)
				}
			case "not found":
				require.ErrorIs(t, err, ErrNotFound)
			default:
				require.NoError(t, err)
				var out []string
				for _, e := range got {
					out = append(out, e.Path)
				}
				require.Equal(t, strings.Fields(c.want), out)
			}
		})
	}
}

func TestAmbiguousErrorStaysShort(t *testing.T) {
	e := &AmbiguousError{Repo: "o/r"}
	for range 500 {
		e.Candidates = append(e.Candidates, "model.gguf")
	}
	require.Contains(t, e.Error(), "and 480 more")
	require.Less(t, len(e.Error()), 500)
}
