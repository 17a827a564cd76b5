//go:build linux

package native_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEdits runs what third_party/llama.cpp/edits changes, in a C++ program of its own: cgo is not for tests.
func TestEdits(t *testing.T) {
	said, err := exec.Command(buildEdits(t)).CombinedOutput()
	require.NoError(t, err, string(said))
	require.Equal(t, "done\n", string(said))
}

// BenchmarkProducts reports how many times faster than ggml's reference Q4_1 products are, of weights that no cache holds.
func BenchmarkProducts(b *testing.B) {
	program := buildEdits(b)
	for _, columns := range []int{1, 2, 4, 8, 16, 128} {
		b.Run(fmt.Sprintf("columns=%d", columns), func(b *testing.B) {
			for b.Loop() {
				out, err := exec.Command(program, strconv.Itoa(columns)).Output()
				require.NoError(b, err)
				for line := range strings.Lines(string(out)) {
					var shape string
					var times float64
					_, err := fmt.Sscan(line, &shape, &times)
					require.NoError(b, err)
					b.ReportMetric(times, "x/"+shape)
				}
			}
		})
	}
}

func buildEdits(t testing.TB) (program string) {
	return buildProgram(t, "-O1", "testdata/edits.cpp")
}

// buildProgram compiles a C++ program with the flags of this package and links it to the library.
func buildProgram(t testing.TB, args ...string) (program string) {
	pkg := listPackage(t)
	program = filepath.Join(t.TempDir(), "program")
	cxx := strings.Fields(goEnv(t, "CXX"))
	args = slices.Concat(cxx[1:], []string{"-std=c++17"}, pkg.CgoCPPFLAGS, args, pkg.CgoLDFLAGS, []string{"-o", program})
	said, err := exec.Command(cxx[0], args...).CombinedOutput()
	require.NoError(t, err, string(said))
	return program
}

type listedPackage struct{ CgoCPPFLAGS, CgoLDFLAGS, CXXFiles []string }

func listPackage(t testing.TB) (p listedPackage) {
	out, err := exec.Command("go", "list", "-json=CgoCPPFLAGS,CgoLDFLAGS,CXXFiles", ".").Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &p))
	return p
}

func goEnv(t testing.TB, name string) string {
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
