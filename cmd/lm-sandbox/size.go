package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag value: a count of bytes, with K, M, G or T for powers of 1024.
type byteSize int64

// Set parses s. It refuses what is negative, not whole or beyond 63 bits.
func (b *byteSize) Set(s string) error {
	digits, shift := s, 0
	if i := len(s) - 1; i >= 0 {
		if p := strings.IndexByte("KMGT", s[i]&^0x20); p >= 0 {
			digits, shift = s[:i], 10*(p+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is not a size: write bytes, or a number with K, M, G or T (of 1024)", s)
	}
	*b = byteSize(n << shift)
	return nil
}

// String is the shortest text that Set reads back as the same size.
func (b *byteSize) String() string {
	n, unit := int64(*b), ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatInt(n, 10) + unit
}

// Type names the value in help texts.
func (b *byteSize) Type() string { return "size" }
