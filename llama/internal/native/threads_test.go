//go:build long && linux

package native_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestShimThreads runs the shim's threads under sanitizers, in a C++ program: Go's race detector does not see C++.
//
// OpenMP's waiting is invisible to ThreadSanitizer (libgomp is built without it), so that every barrier of ggml would look like
// a race: ggml computes with one thread here, and the shim, built without OpenMP, samples with four threads of its own.
func TestShimThreads(t *testing.T) {
	pkg := listPackage(t)
	require.Contains(t, pkg.CXXFiles, "shim_decode.cpp")
	model := fixture.Llama(2).Write(t)
	for _, sanitizer := range []string{"thread", "address,undefined"} {
		t.Run(sanitizer, func(t *testing.T) {
			program := buildProgram(t, append(pkg.CXXFiles, "testdata/threads.cpp", "-O1", "-g", "-fno-omit-frame-pointer",
				"-fno-sanitize-recover=undefined", "-fsanitize="+sanitizer)...)
			run := exec.Command(program, model)
			// containers that both sides of the border change are marked by one side only
			run.Env = append(os.Environ(), "OMP_THREAD_LIMIT=1", "GGML_NO_BACKTRACE=1", "TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1",
				"ASAN_OPTIONS=detect_container_overflow=0")
			said, err := run.CombinedOutput()
			require.NoError(t, err, string(said))
			require.Equal(t, "done\n", string(said))
		})
	}
}
