package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Rule is one line of an allow-list.
type Rule struct {
	text   string
	name   string       // the name, or what follows "*."; "" where prefix is valid
	below  bool         // names below name, not it
	prefix netip.Prefix // addresses
	port   uint16       // 0: 80 and 443
	ports  bool         // all
}

var errRule = errors.New("write host, host:port, *.domain, an address or a prefix")

// ParseRule reads
//
//	NAME | *.NAME | * | IPv4[/BITS] | IPv6[/BITS] | [IPv6[/BITS]]   and then nothing, :PORT or :*
func ParseRule(text string) (Rule, error) {
	r := Rule{text: text}
	if text == "" || strings.Contains(text, "://") {
		return r, errRule
	}
	// IPv6 without brackets has no port.
	if p, err := parsePrefix(text); err == nil {
		r.prefix = p
		return r, nil
	}
	host, port, err := splitPort(text)
	if err != nil {
		return r, err
	}
	if port == "*" {
		r.ports = true
	} else if port != "" {
		if r.port, err = parsePort(port); err != nil {
			return r, err
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		r.prefix, err = parsePrefix(strings.TrimSuffix(inner, "]"))
		if err == nil && r.prefix.Addr().Is4() {
			err = errRule
		}
		return r, err
	}
	if p, err := parsePrefix(host); err == nil {
		r.prefix = p
		return r, nil
	}
	if strings.Contains(host, "/") {
		return r, errors.New("no prefix of addresses: the bits after it must be zero, and IPv6 with a port needs brackets")
	}
	if host == "*" {
		r.below = true
		return r, nil
	}
	host, r.below = strings.CutPrefix(host, "*.")
	r.name, err = ruleName(host)
	return r, err
}

// ruleName also takes letters other than ASCII, as they would be registered.
func ruleName(host string) (string, error) {
	if strings.ContainsFunc(host, func(c rune) bool { return c >= 0x80 }) {
		ascii, err := idna.Registration.ToASCII(host)
		if err != nil {
			return "", fmt.Errorf("no international name in its registered form, which is lower case: %w", err)
		}
		host = ascii
	}
	name, addr, err := parseHost(host)
	if err == nil && addr.IsValid() {
		err = errRule // "*.127.0.0.1"
	}
	return name, err
}

// parsePrefix takes an address too.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err != nil {
			return p, err
		}
		if a.Zone() != "" {
			return p, errors.New("an address with a zone")
		}
		a = a.Unmap()
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p, CheckPrefix(p)
}

// CheckPrefix refuses a prefix that could be meant otherwise.
func CheckPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("no prefix of addresses")
	case p != p.Masked():
		return fmt.Errorf("bits after the prefix; write %s", p.Masked())
	case p.Addr().Is4In6():
		return errors.New("IPv4 within IPv6; write it as IPv4")
	}
	if s, ok := rangeOf(p.Addr()); ok && s.never && p.Bits() >= s.prefix.Bits() {
		return fmt.Errorf("%s is %s and never allowed", p, s.what)
	}
	return nil
}

func (r Rule) matches(d Dest) bool {
	switch {
	case !r.ports && r.port != d.Port && (r.port != 0 || (d.Port != 80 && d.Port != 443)):
		return false
	case r.prefix.IsValid():
		return d.Name == "" && r.prefix.Contains(d.Addr) && names(r.prefix, d.Addr)
	case d.Name == "":
		return false
	case !r.below:
		return d.Name == r.name
	}
	return r.name == "" || strings.HasSuffix(d.Name, "."+r.name)
}

// Rules decide where a connection may go.
type Rules struct {
	Rules   []Rule
	Private []netip.Prefix // that names may resolve to, beside public addresses
}

// match finds the rule that allows a destination as it was asked for.
func (r *Rules) match(d Dest) (string, bool) {
	i := slices.IndexFunc(r.Rules, func(rule Rule) bool { return rule.matches(d) })
	if i < 0 {
		return "", false
	}
	return r.Rules[i].text, true
}

// refuses says why a name that a rule allows may not be at this address; "" is that it may.
func (r *Rules) refuses(a netip.Addr, port uint16) string {
	s, ok := rangeOf(a)
	if !ok {
		return ""
	}
	for _, p := range r.Private {
		if p.Contains(a) && names(p, a) {
			return ""
		}
	}
	if _, named := r.match(Dest{Addr: a, Port: port}); named {
		return ""
	}
	return "its address is " + s.what
}
