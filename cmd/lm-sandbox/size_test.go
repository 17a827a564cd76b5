package main

import (
	"math"
	"testing"
)

func TestByteSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		text string // what String gives back; "" means in
	}{
		{"0", 0, ""},
		{"1", 1, ""},
		{"1024", 1024, "1K"},
		{"512K", 512 << 10, ""},
		{"512k", 512 << 10, "512K"},
		{"64M", 64 << 20, ""},
		{"1025M", 1025 << 20, ""},
		{"2g", 2 << 30, "2G"},
		{"1T", 1 << 40, ""},
		{"9223372036854775807", math.MaxInt64, ""},
		{"8388607T", 8388607 << 40, ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			var b byteSize
			if err := b.Set(tt.in); err != nil {
				t.Fatal(err)
			}
			if int64(b) != tt.want {
				t.Errorf("got %d, want %d", b, tt.want)
			}
			want := tt.text
			if want == "" {
				want = tt.in
			}
			if b.String() != want {
				t.Errorf("String() = %q, want %q", b.String(), want)
			}
		})
	}
}

func TestByteSizeRefuses(t *testing.T) {
	for _, in := range []string{"", "M", "-1", "+1", "1.5G", "64MB", "64 M", "0x10", "8388608T", "9223372036854775808", "64Q"} {
		t.Run(in, func(t *testing.T) {
			b := byteSize(7)
			if err := b.Set(in); err == nil {
				t.Fatalf("taken as %d", b)
			}
			if b != 7 {
				t.Errorf("changed to %d", b)
			}
		})
	}
}

func FuzzByteSize(f *testing.F) {
	for _, in := range []string{"0", "1K", "64M", "8388607T", "x"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var b, again byteSize
		if b.Set(in) != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q gave %d", in, b)
		}
		if err := again.Set(b.String()); err != nil || again != b {
			t.Fatalf("%q: String %q read back as %d, %v; want %d", in, b.String(), again, err, b)
		}
	})
}
