//go:build !linux

package sandbox

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnsupported(t *testing.T) {
	_, err := Run(t.Context(), Config{}, "true")
	require.ErrorIs(t, err, ErrUnsupported)
	_, err = Start(t.Context(), Config{}, "true")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = Probe(t.Context())
	require.ErrorIs(t, err, ErrUnsupported)
}
