package gpu

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of CUDA (12.9), or a compute capability (9.0). The zero value is an unknown one.
type Version struct{ Major, Minor int }

// ParseVersion reads "12" or "12.9".
func ParseVersion(s string) (Version, error) {
	major, minor, dotted := strings.Cut(s, ".")
	v := Version{}
	var err error
	if v.Major, err = number(major); err == nil && dotted {
		v.Minor, err = number(minor)
	}
	if err != nil {
		return Version{}, fmt.Errorf("gpu: version %q: want two numbers and a dot, such as 12.9", s)
	}
	return v, nil
}

func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}

// Compare is -1 where v is older than w, 0 where they are the same, 1 where v is newer.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor))
}

// String is "12.9", and empty for an unknown version.
func (v Version) String() string {
	if v == (Version{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// MarshalText is String, so that JSON has "12.9".
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is ParseVersion; the empty text is the unknown version.
func (v *Version) UnmarshalText(text []byte) (err error) {
	*v = Version{}
	if len(text) > 0 {
		*v, err = ParseVersion(string(text))
	}
	return err
}
