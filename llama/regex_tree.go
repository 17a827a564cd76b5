package llama

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// regexNode is a part of a regular expression.
type regexNode struct {
	kind     regexKind
	text     string       // of regexText
	set      runeSet      // of regexClass
	subs     []*regexNode // of regexConcat, regexAlt; the one of regexRepeat
	min, max int          // of regexRepeat; max < 0 = any number
}

type regexKind int

const (
	regexText regexKind = iota
	regexClass
	regexConcat
	regexAlt
	regexRepeat
)

// size is the number of elements that llama.cpp writes out for it, about.
func (n *regexNode) size() int {
	total := max(1, len(n.set), utf8.RuneCountInString(n.text))
	for _, s := range n.subs {
		total = saturate(total + s.size())
	}
	if n.kind == regexRepeat {
		total = saturate(total * max(n.min, n.max, 1))
	}
	return total
}

// empty says whether it matches the empty text.
func (n *regexNode) empty() bool {
	empty := func(s *regexNode) bool { return s.empty() }
	switch n.kind {
	case regexConcat:
		return !slices.ContainsFunc(n.subs, func(s *regexNode) bool { return !s.empty() })
	case regexAlt:
		return slices.ContainsFunc(n.subs, empty)
	case regexRepeat:
		return n.min == 0 || n.subs[0].empty()
	}
	return false
}

// A repetition of what may be empty is left recursion to llama.cpp, and has several ways to be the same text. So the empty
// text is taken out of what is repeated (star normal form: Brüggemann-Klein 1993).

// core gives n2 with n2* = n*, which does not match the empty text; nil where n matches nothing else.
func (n *regexNode) core() *regexNode {
	switch {
	case n.kind == regexAlt, n.kind == regexConcat && n.empty():
		alt := &regexNode{kind: regexAlt}
		for _, s := range n.subs {
			if c := s.core(); c != nil {
				alt.subs = append(alt.subs, c)
			}
		}
		if len(alt.subs) == 0 {
			return nil
		}
		return alt
	case n.kind == regexRepeat && n.max == 0:
		return nil
	case n.kind == regexRepeat && (n.min <= 1 || n.empty()):
		return n.subs[0].core() // (x{1,3})* = x*
	}
	return n
}

// filled is n without the empty text; nil where nothing is left.
func (n *regexNode) filled() *regexNode {
	if !n.empty() {
		return n
	}
	alt := &regexNode{kind: regexAlt}
	switch n.kind {
	case regexAlt:
		for _, s := range n.subs {
			if f := s.filled(); f != nil {
				alt.subs = append(alt.subs, f)
			}
		}
	case regexConcat: // a b c: a' b c | b' c | c'
		for i, s := range n.subs {
			if f := s.filled(); f != nil {
				alt.subs = append(alt.subs, &regexNode{kind: regexConcat, subs: append([]*regexNode{f}, n.subs[i+1:]...)})
			}
		}
	case regexRepeat:
		f := n.subs[0].filled()
		if f == nil || n.max == 0 {
			return nil
		}
		return &regexNode{kind: regexRepeat, subs: []*regexNode{f}, min: 1, max: n.max}
	}
	if len(alt.subs) == 0 {
		return nil
	}
	return alt
}

// write adds n as GBNF.
func (n *regexNode) write(b *strings.Builder) {
	switch n.kind {
	case regexText:
		b.WriteByte('"')
		for _, r := range n.text {
			writeRune(b, r)
		}
		b.WriteByte('"')
	case regexClass:
		n.set.write(b)
	case regexConcat:
		if len(n.subs) == 0 {
			b.WriteString(`""`)
		}
		for i, s := range n.subs {
			if i > 0 {
				b.WriteByte(' ')
			}
			if s.kind == regexAlt {
				s.writeGroup(b)
			} else {
				s.write(b)
			}
		}
	case regexAlt:
		for i, s := range n.subs {
			if i > 0 {
				b.WriteString(" | ")
			}
			s.write(b)
		}
	case regexRepeat:
		n.writeRepeat(b)
	}
}

func (n *regexNode) writeGroup(b *strings.Builder) {
	b.WriteByte('(')
	n.write(b)
	b.WriteByte(')')
}

func (n *regexNode) writeRepeat(b *strings.Builder) {
	of, lo := n.subs[0], n.min
	switch {
	case n.max == 0:
		of = nil
	case n.max < 0 && (lo == 0 || of.empty()):
		of, lo = of.core(), 0
	case of.empty():
		of, lo = of.filled(), 0
	}
	if of == nil {
		b.WriteString(`""`)
		return
	}
	if of.kind == regexClass || of.kind == regexText && utf8.RuneCountInString(of.text) == 1 {
		of.write(b)
	} else {
		of.writeGroup(b)
	}
	switch {
	case lo == 0 && n.max < 0:
		b.WriteByte('*')
	case lo == 1 && n.max < 0:
		b.WriteByte('+')
	case lo == 0 && n.max == 1:
		b.WriteByte('?')
	case n.max < 0:
		fmt.Fprintf(b, "{%d,}", lo)
	case lo == n.max:
		fmt.Fprintf(b, "{%d}", lo)
	default:
		fmt.Fprintf(b, "{%d,%d}", lo, n.max)
	}
}

func writeRune(b *strings.Builder, r rune) {
	switch {
	case r < utf8.RuneSelf && (isWordByte(byte(r)) || r == ' '):
		b.WriteByte(byte(r))
	case r < 0x100:
		fmt.Fprintf(b, `\x%02X`, r)
	case r < 0x10000:
		fmt.Fprintf(b, `\u%04X`, r)
	default:
		fmt.Fprintf(b, `\U%08X`, r)
	}
}

// runeSet is a set of characters as ranges, first to last.
type runeSet [][2]rune

// normal orders the ranges and joins those that touch.
func (s runeSet) normal() runeSet {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b [2]rune) int { return int(a[0] - b[0]) })
	var out runeSet
	for _, r := range s {
		if n := len(out); n > 0 && r[0] <= out[n-1][1]+1 {
			out[n-1][1] = max(out[n-1][1], r[1])
		} else {
			out = append(out, r)
		}
	}
	return out
}

// invert gives all other characters but NUL, which no output has.
func (s runeSet) invert() runeSet {
	var out runeSet
	next := rune(1)
	for _, r := range s {
		if r[0] > next {
			out = append(out, [2]rune{next, r[0] - 1})
		}
		next = max(next, r[1]+1)
	}
	if next <= unicode.MaxRune {
		out = append(out, [2]rune{next, unicode.MaxRune})
	}
	return out
}

func (s runeSet) write(b *strings.Builder) {
	b.WriteByte('[')
	for _, r := range s {
		writeRune(b, r[0])
		if r[1] > r[0] {
			b.WriteByte('-')
			writeRune(b, r[1])
		}
	}
	b.WriteByte(']')
}
