package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Dest is where a client wants to go: a name or an address, and a port. Two
// spellings of one place are the same Dest.
type Dest struct {
	Name string     // lower case, without a trailing dot, or ""
	Addr netip.Addr // valid if Name is "", never an IPv4 address within IPv6
	Port uint16
}

func (d Dest) host() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Addr.String()
}

// authority is d as it is written in a request.
func (d Dest) authority() string {
	if d.Addr.Is6() {
		return "[" + d.Addr.String() + "]:" + strconv.Itoa(int(d.Port))
	}
	return d.host() + ":" + strconv.Itoa(int(d.Port))
}

// maxName is the longest name of DNS, in text without the trailing dot.
const maxName = 253

var errPort = errors.New("no port from 1 to 65535")

// ParseAuthority reads host, host:port or [IPv6]:port. Without a port it is
// port, unless that is 0.
func ParseAuthority(s string, port uint16) (Dest, error) {
	host, text, err := splitPort(s)
	if err != nil {
		return Dest{}, err
	}
	d := Dest{Port: port}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		d.Addr, err = parseIPv6(strings.TrimSuffix(inner, "]"))
	} else {
		d.Name, d.Addr, err = parseHost(host)
	}
	if err != nil {
		return Dest{}, err
	}
	if text != "" {
		d.Port, err = parsePort(text)
	} else if port == 0 {
		err = errPort
	}
	return d, err
}

// splitPort cuts host[:port]; brackets stay.
func splitPort(s string) (host, port string, err error) {
	end := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
		if end == 0 {
			return "", "", errors.New("a bracket without its other")
		}
	}
	if end < 0 || end == len(s) {
		return s, "", nil
	}
	if s[end] != ':' {
		return "", "", errors.New("something between host and port")
	}
	if end+1 == len(s) {
		return "", "", errPort
	}
	return s[:end], s[end+1:], nil
}

// parsePort takes decimal digits in their shortest form only.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, errPort
	}
	return uint16(n), nil
}

func parseIPv6(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return netip.Addr{}, errors.New("no IPv6 address without a zone within brackets")
	}
	return a.Unmap(), nil
}

// parseHost reads a name or an IPv4 address. What the C library would take for
// an address though it is not written as one (10.1, 0x7f000001, 017700000001,
// 2130706433) is neither.
func parseHost(s string) (string, netip.Addr, error) {
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if name == "" || len(name) > maxName {
		return "", netip.Addr{}, fmt.Errorf("no name of 1 to %d bytes", maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", netip.Addr{}, err
		}
	}
	if !numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return name, netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s) // four decimal numbers without leading zeros
	if err != nil {
		return "", netip.Addr{}, errors.New("a number that is no IPv4 address in its usual form")
	}
	return "", a, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > 63 {
		return errors.New("a name has labels of 1 to 63 bytes")
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%q is not in names; write others than ASCII letters as xn--", c)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("a label begins or ends with '-'")
	}
	return nil
}

// numeric says that a name with this last label may be read as a number.
func numeric(label string) bool {
	if strings.HasPrefix(label, "0x") {
		return true
	}
	return strings.Trim(label, "0123456789") == ""
}
