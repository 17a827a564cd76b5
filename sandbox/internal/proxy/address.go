package proxy

import "net/netip"

// special is a range of addresses that is not the public internet.
type special struct {
	prefix netip.Prefix
	what   string
	never  bool // no rule can allow it
}

// specials: the first that contains an address counts. From the registries of
// special-purpose addresses of IANA, and the cloud services that have public ones.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host", true},
	{netip.MustParsePrefix("10.0.0.0/8"), "private", false},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a provider (CGNAT)", false},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback", false},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local (cloud metadata)", false},
	{netip.MustParsePrefix("172.16.0.0/12"), "private", false},
	{netip.MustParsePrefix("192.0.0.0/24"), "of the IETF", false},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation", false},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay", false},
	{netip.MustParsePrefix("192.168.0.0/16"), "private", false},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks", false},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation", false},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation", false},
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata", false},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast", true},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved", true},

	{netip.MustParsePrefix("::/128"), "this host", true},
	{netip.MustParsePrefix("::1/128"), "loopback", false},
	{netip.MustParsePrefix("64:ff9b::/96"), "IPv4 by NAT64", false},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4 by NAT64", false},
	{netip.MustParsePrefix("2001::/23"), "of the IETF (Teredo and others)", false},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation", false},
	{netip.MustParsePrefix("2002::/16"), "IPv4 by 6to4", false},
	{netip.MustParsePrefix("3fff::/20"), "for documentation", false},
	{netip.MustParsePrefix("fc00::/7"), "private", false},
	{netip.MustParsePrefix("fe80::/10"), "link-local", false},
	{netip.MustParsePrefix("fec0::/10"), "site-local", false},
	{netip.MustParsePrefix("ff00::/8"), "multicast", true},
}

// public6 is what has been given out of IPv6; the rest is reserved.
var public6 = netip.MustParsePrefix("2000::/3")

// rangeOf finds the special range of an address that is not within another.
func rangeOf(a netip.Addr) (special, bool) {
	for _, s := range specials {
		if s.prefix.Contains(a) {
			return s, true
		}
	}
	if a.Is6() && !public6.Contains(a) {
		return special{netip.MustParsePrefix("::/0"), "reserved", true}, true
	}
	return special{}, false
}

// names says that p, which contains a, means a: a prefix that is wider than a
// special range is not about it.
func names(p netip.Prefix, a netip.Addr) bool {
	s, ok := rangeOf(a)
	return !ok || (!s.never && p.Bits() >= s.prefix.Bits())
}
