package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSessionState(t *testing.T) {
	s, err := NewSession(t.Context(), Config{})
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Exec(t.Context(), "cd /tmp; x=1; echo out; echo err >&2; (exit 3)")
	require.NoError(t, err)
	require.Equal(t, 3, r.ExitCode)
	require.Equal(t, "/tmp", r.Dir)
	require.Equal(t, "out\n", string(r.Stdout))
	require.Equal(t, "err\n", string(r.Stderr))
	r, err = s.Exec(t.Context(), "echo $x $PWD")
	require.NoError(t, err)
	require.Equal(t, "1 /tmp\n", string(r.Stdout))
	_, err = s.Exec(t.Context(), "exit 4")
	var exited *ErrShellExited
	require.ErrorAs(t, err, &exited)
	require.Equal(t, 4, exited.ExitCode)
}
