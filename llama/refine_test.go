package llama

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestF16(t *testing.T) {
	for h := uint16(0x0400); h < 0x7c00; h++ {
		back, ok := toF16(fromF16(h))
		require.True(t, ok)
		require.Equal(t, h, back)
	}
	require.Equal(t, -1.5, fromF16(0xbe00))
	require.Equal(t, 0.0, fromF16(0))
	require.True(t, math.IsInf(fromF16(0x7c00), 1))
	require.True(t, math.IsNaN(fromF16(0x7e00)))
	for _, x := range []float64{0, -1, 1e-6, 1e6, math.NaN(), math.Inf(1)} {
		_, ok := toF16(x)
		require.False(t, ok, "%v", x)
	}
}

// A refined block is never further from its weights, and mostly much nearer.
func TestRefineBlock(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	before, after := 0.0, 0.0
	for range 2000 {
		src, dst := make([]byte, blockQ4_1), make([]byte, blockQ8_0)
		d, _ := toF16(0.001 + 0.02*rng.Float64())
		m, _ := toF16(fromF16(d) * (6 + 3*rng.Float64()))
		binary.LittleEndian.PutUint16(src, d)
		binary.LittleEndian.PutUint16(src[2:], m|0x8000)
		var w [32]float64
		most := 0.0
		for i := range 16 {
			src[4+i] = byte(rng.IntN(256))
			w[i] = fromF16(d)*float64(src[4+i]&15) - fromF16(m)
			w[i+16] = fromF16(d)*float64(src[4+i]>>4) - fromF16(m)
			most = max(most, math.Abs(w[i]), math.Abs(w[i+16]))
		}
		scale, _ := toF16(most / 127)
		binary.LittleEndian.PutUint16(dst, scale)
		for i := range w {
			dst[2+i] = byte(int8(max(-127, min(127, math.Round(w[i]/(most/127))))))
		}
		far := func() float64 {
			sum, s := 0.0, fromF16(binary.LittleEndian.Uint16(dst))
			for i := range w {
				e := w[i] - s*float64(int8(dst[2+i]))
				sum += e * e
			}
			return sum
		}
		b := far()
		refineBlock(dst, src)
		a := far()
		require.LessOrEqual(t, a, b*(1+1e-9))
		before, after = before+b, after+a
	}
	require.Less(t, after, before/4)
	// what is no number stays as it is
	src, dst := make([]byte, blockQ4_1), make([]byte, blockQ8_0)
	for _, h := range []uint16{0, 0x7c00, 0x7e00, 0xbc00} {
		binary.LittleEndian.PutUint16(src, h)
		refineBlock(dst, src)
		require.Equal(t, make([]byte, blockQ8_0), dst)
	}
}
