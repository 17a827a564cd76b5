package llama

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// Types and sizes of blocks of 32 weights.
const (
	typeQ4_1  = 3
	typeQ8_0  = 8
	blockQ4_1 = 20 // scale and least weight, F16; 32 times 4 bits
	blockQ8_0 = 34 // scale, F16; 32 times 8 bits
)

// refine gives the Q8_0 blocks that llama.cpp has made of Q4_1 ones better scales. llama.cpp takes the largest weight for 127, and
// rounds all others. But the weights of a block are 16 steps d from m: on a grid of d/n they lie exactly, but for m, and for
// one n that lies nearly on the grid, too. Tensors in other parts of a split model stay as they are.
func refine(ctx context.Context, in, out string) error {
	from, source, err := openTensors(in, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, made, err := openTensors(out, os.O_RDWR)
	if err != nil {
		return err
	}
	for i := range made {
		t := &made[i]
		same := func(s ggufTensor) bool { return s.name == t.name && slices.Equal(s.dims, t.dims) }
		k := slices.IndexFunc(source, same)
		if k < 0 || source[k].kind != typeQ4_1 || t.kind != typeQ8_0 {
			continue
		}
		if err = ctx.Err(); err == nil {
			err = refineTensor(from, to, &source[k], t)
		}
		if err != nil {
			err = fmt.Errorf("llama: tune %s: %w", in, err)
			break
		}
	}
	return errors.Join(err, to.Close())
}

func openTensors(path string, mode int) (*os.File, []ggufTensor, error) {
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("llama: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("llama: %w", err), f.Close())
	}
	_, tensors, err := readGGUF(f, st.Size())
	if err != nil {
		return nil, nil, errors.Join(errorf(ErrModelFormat, "%s: %v", path, err), f.Close())
	}
	return f, tensors, nil
}

func refineTensor(from, to *os.File, s, t *ggufTensor) error {
	left := uint64(1)
	for _, d := range t.dims {
		left *= d
	}
	left /= 32
	const most = 1 << 15
	src, dst := make([]byte, most*blockQ4_1), make([]byte, most*blockQ8_0)
	for at := uint64(0); left > 0; {
		n := min(left, most)
		src, dst := src[:n*blockQ4_1], dst[:n*blockQ8_0]
		if _, err := from.ReadAt(src, int64(s.at+at*blockQ4_1)); err != nil {
			return err
		}
		if _, err := to.ReadAt(dst, int64(t.at+at*blockQ8_0)); err != nil {
			return err
		}
		for i := range n {
			refineBlock(dst[i*blockQ8_0:][:blockQ8_0], src[i*blockQ4_1:][:blockQ4_1])
		}
		if _, err := to.WriteAt(dst, int64(t.at+at*blockQ8_0)); err != nil {
			return err
		}
		at, left = at+n, left-n
	}
	return nil
}

// refineBlock improves one block where it can.
func refineBlock(dst, src []byte) {
	d, m := fromF16(binary.LittleEndian.Uint16(src)), fromF16(binary.LittleEndian.Uint16(src[2:]))
	if !(d > 0) || math.IsInf(d, 0) || math.IsNaN(m) || math.IsInf(m, 0) {
		return
	}
	var q [32]int
	for i, b := range src[4:] {
		q[i], q[i+16] = int(b&15), int(b>>4)
	}
	lo, hi := slices.Min(q[:]), slices.Max(q[:])
	scale := fromF16(binary.LittleEndian.Uint16(dst))
	sum, squares, least := 0.0, 0.0, 0.0
	for i, v := range q {
		x := float64(v)
		sum, squares = sum+x, squares+x*x
		e := d*x + m - scale*float64(int8(dst[2+i]))
		least += e * e
	}
	best, offset, bits := 0, 0, uint16(0)
	for n := 1; n <= 127; n++ {
		half, ok := toF16(d / float64(n))
		if !ok {
			break
		}
		s := fromF16(half)
		o := int(math.Round(m / s))
		if n*(hi-lo) > 254 {
			break
		}
		if n*lo+o < -127 || n*hi+o > 127 {
			continue
		}
		// each weight is off by x*q + y
		x, y := d-float64(n)*s, m-float64(o)*s
		if e := x*x*squares + 2*x*y*sum + 32*y*y; e < least {
			least, best, offset, bits = e, n, o, half
		}
	}
	if best == 0 {
		return
	}
	binary.LittleEndian.PutUint16(dst, bits)
	for i, v := range q {
		dst[2+i] = byte(int8(best*v + offset))
	}
}

// fromF16 is the value of a 16-bit float.
func fromF16(h uint16) float64 {
	exponent, fraction := int(h>>10&31), float64(h&1023)
	x := math.Ldexp(1+fraction/1024, exponent-15)
	switch {
	case exponent == 31 && fraction == 0:
		x = math.Inf(1)
	case exponent == 31:
		x = math.NaN()
	case exponent == 0:
		x = math.Ldexp(fraction, -24)
	}
	if h>>15 != 0 {
		return -x
	}
	return x
}

// toF16 rounds a positive number; false outside of what 16 bits hold with full precision.
func toF16(x float64) (uint16, bool) {
	const least, most = 1.0 / (1 << 14), 65504
	if !(x >= least && x <= most) {
		return 0, false
	}
	fraction, exponent := math.Frexp(x)         // 0.5 to 1
	n := int(math.RoundToEven(fraction * 2048)) // 1024 to 2048
	return uint16((exponent+13)<<10 + n), true
}
