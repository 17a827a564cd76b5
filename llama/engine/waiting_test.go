package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWaitingEnv(t *testing.T) {
	require.Equal(t, []string{"A=b", "GOMP_SPINCOUNT=4000"}, waitingEnv([]string{"A=b"}))
	for _, said := range []string{"GOMP_SPINCOUNT=0", "OMP_WAIT_POLICY=active"} {
		require.Equal(t, []string{said}, waitingEnv([]string{said}), "what the user says holds")
	}
}
