package testgpu

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAddress(t *testing.T) {
	assert.Equal(t, address("00000000:3B:00.0"), address("0000:3b:00.0"))
	assert.Equal(t, address("00010000:3B:00.0"), address("10000:3b:00.0"))
	assert.NotEqual(t, address("00000000:3B:00.0"), address("0000:3c:00.0"))
	assert.NotEqual(t, address("00000001:3B:00.0"), address("0000:3b:00.0"))
}
