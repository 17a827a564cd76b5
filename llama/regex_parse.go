package llama

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// regexParser reads a pattern; fault is the offset of what an error is about.
type regexParser struct {
	src   string
	pos   int
	fault int
	size  int // elements after repetitions are written out
}

func (p *regexParser) fail(at int, format string, args ...any) error {
	p.fault = at
	return fmt.Errorf(format, args...)
}

func (p *regexParser) parse() (*regexNode, error) {
	n, err := p.alternatives(0)
	if err == nil && p.pos < len(p.src) {
		return nil, p.fail(p.pos, "no group is open for this ): write \\) for the character")
	}
	return n, err
}

func (p *regexParser) alternatives(depth int) (*regexNode, error) {
	alt := &regexNode{kind: regexAlt}
	for {
		s, err := p.sequence(depth)
		if err != nil {
			return nil, err
		}
		alt.subs = append(alt.subs, s)
		if !strings.HasPrefix(p.src[p.pos:], "|") {
			break
		}
		p.pos++
	}
	if len(alt.subs) == 1 {
		return alt.subs[0], nil
	}
	return alt, nil
}

func (p *regexParser) sequence(depth int) (*regexNode, error) {
	seq := &regexNode{kind: regexConcat}
	begin := p.pos
	for p.pos < len(p.src) && p.src[p.pos] != '|' && p.src[p.pos] != ')' {
		at := p.pos
		switch p.src[p.pos] {
		case '^':
			if depth > 0 || p.pos != begin {
				return nil, p.fail(at, "^ can only stand at the beginning: the whole output matches anyhow; write \\^ for the character")
			}
			p.pos++
			continue
		case '$':
			if next := p.pos + 1; depth > 0 || next < len(p.src) && p.src[next] != '|' {
				return nil, p.fail(at, "$ can only stand at the end: the whole output matches anyhow; write \\$ for the character")
			}
			p.pos++
			continue
		}
		n, err := p.atom(depth)
		if err != nil {
			return nil, err
		}
		if n, err = p.repeated(n); err != nil {
			return nil, err
		}
		if p.size = saturate(p.size + n.size()); p.size > maxGrammarSize {
			return nil, p.fail(at, "its repetitions make more than %d elements", maxGrammarSize)
		}
		seq.subs = append(seq.subs, n)
	}
	return seq, nil
}

func (p *regexParser) atom(depth int) (*regexNode, error) {
	at := p.pos
	switch c := p.src[p.pos]; c {
	case '(':
		return p.group(depth)
	case '[':
		return p.class()
	case '*', '+', '?', '{':
		return nil, p.fail(at, "there is nothing to repeat: write \\%c for the character", c)
	case '.':
		p.pos++
		return &regexNode{kind: regexClass, set: runeSet{{'\n', '\n'}}.invert()}, nil
	case '\\':
		set, r, err := p.escape(false)
		if err != nil {
			return nil, err
		}
		if set != nil {
			return &regexNode{kind: regexClass, set: set}, nil
		}
		return &regexNode{kind: regexText, text: string(r)}, nil
	}
	r, n := utf8.DecodeRuneInString(p.src[p.pos:])
	if r == 0 {
		return nil, p.fail(at, "a NUL cannot be part of the output")
	}
	p.pos += n
	return &regexNode{kind: regexText, text: string(r)}, nil
}

func (p *regexParser) group(depth int) (*regexNode, error) {
	at := p.pos
	if depth >= maxNesting/2 { // each becomes up to two brackets
		return nil, p.fail(at, "groups are nested deeper than %d levels", maxNesting/2)
	}
	rest := p.src[p.pos:]
	p.pos++
	if strings.HasPrefix(rest, "(?") {
		name := strings.TrimPrefix(strings.TrimPrefix(rest[2:], "P"), "<")
		end := strings.IndexByte(name, '>')
		switch {
		case strings.HasPrefix(rest, "(?:"):
			p.pos += 2
		case strings.HasPrefix(rest, "(?="), strings.HasPrefix(rest, "(?!"), strings.HasPrefix(rest, "(?<="), strings.HasPrefix(rest, "(?<!"):
			return nil, p.fail(at, "look-around cannot be expressed")
		case len(name) < len(rest)-2 && end > 0 && isRegexName(name[:end]):
			p.pos += len(rest) - len(name) + end
		default:
			return nil, p.fail(at, "flags and other groups that begin with (? cannot be expressed: only (?:…) and named groups")
		}
	}
	n, err := p.alternatives(depth + 1)
	if err != nil {
		return nil, err
	}
	if p.pos == len(p.src) {
		return nil, p.fail(at, "the group is not closed")
	}
	p.pos++
	return n, nil
}

func isRegexName(s string) bool {
	for i, c := range []byte(s) {
		if !isWordByte(c) || i == 0 && '0' <= c && c <= '9' {
			return false
		}
	}
	return true
}

func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// repeated reads what may follow an atom.
func (p *regexParser) repeated(n *regexNode) (*regexNode, error) {
	if p.pos == len(p.src) {
		return n, nil
	}
	at := p.pos
	lo, hi := 0, -1
	switch p.src[p.pos] {
	case '*':
	case '+':
		lo = 1
	case '?':
		hi = 1
	case '{':
		m := patternTimes.FindStringSubmatch(p.src[p.pos:])
		if m == nil || m[1][0] == ',' {
			return nil, p.fail(at, "want {m}, {m,} or {m,n}: write \\{ for the character")
		}
		p.pos += len(m[0]) - 1
		first, second, more := strings.Cut(m[1], ",")
		lo, _ = strconv.Atoi(first) // at most nine digits
		switch {
		case !more:
			hi = lo
		case second != "":
			hi, _ = strconv.Atoi(second)
		}
		if lo > maxRegexRepeat || hi > maxRegexRepeat {
			return nil, p.fail(at, "at most %d repetitions can be expressed", maxRegexRepeat)
		}
		if hi >= 0 && hi < lo {
			return nil, p.fail(at, "%d is more than %d", lo, hi)
		}
	default:
		return n, nil
	}
	p.pos++
	if strings.HasPrefix(p.src[p.pos:], "?") { // lazy
		p.pos++
	}
	if p.pos < len(p.src) && strings.IndexByte("*+?{", p.src[p.pos]) >= 0 {
		return nil, p.fail(p.pos, "a repetition cannot be repeated: put a group around it")
	}
	r := &regexNode{kind: regexRepeat, subs: []*regexNode{n}, min: lo, max: hi}
	if r.size() > maxGrammarSize {
		return nil, p.fail(at, "repetitions within repetitions make more than %d elements", maxGrammarSize)
	}
	return r, nil
}

var (
	regexDigits = runeSet{{'0', '9'}}
	regexWords  = runeSet{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}
	regexSpaces = runeSet{{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}} // Go's
)

// escape reads a backslash and what belongs to it: a set, or else one character.
func (p *regexParser) escape(class bool) (runeSet, rune, error) {
	at := p.pos
	if p.pos+1 == len(p.src) {
		return nil, 0, p.fail(at, "nothing follows the backslash")
	}
	p.pos++
	c, n := utf8.DecodeRuneInString(p.src[p.pos:])
	p.pos += n
	switch c {
	case 'd':
		return regexDigits, 0, nil
	case 'D':
		return regexDigits.invert(), 0, nil
	case 'w':
		return regexWords, 0, nil
	case 'W':
		return regexWords.invert(), 0, nil
	case 's':
		return regexSpaces, 0, nil
	case 'S':
		return regexSpaces.invert(), 0, nil
	case 't':
		return nil, '\t', nil
	case 'n':
		return nil, '\n', nil
	case 'r':
		return nil, '\r', nil
	case 'f':
		return nil, '\f', nil
	case 'v':
		return nil, '\v', nil
	case 'x', 'u':
		return p.hexadecimal(at, c)
	case 'b', 'B', 'A', 'z', 'Z', 'G':
		return nil, 0, p.fail(at, "\\%c cannot be expressed", c)
	case 'p', 'P':
		return nil, 0, p.fail(at, "\\%c cannot be expressed: write the characters as a class, such as [a-zA-ZÀ-ÿ]", c)
	case 'k':
		return nil, 0, p.fail(at, "back references cannot be expressed")
	}
	switch {
	case '1' <= c && c <= '9' && !class:
		return nil, 0, p.fail(at, "back references cannot be expressed")
	case c < utf8.RuneSelf && !isWordByte(byte(c)) && c > ' ' && c != 0x7f:
		return nil, c, nil
	}
	return nil, 0, p.fail(at, "the escape \\%c has no meaning here", c)
}

// hexadecimal reads what follows \x or \u.
func (p *regexParser) hexadecimal(at int, kind rune) (runeSet, rune, error) {
	rest := p.src[p.pos:]
	digits, size := "", 0
	if end := strings.IndexByte(rest, '}'); strings.HasPrefix(rest, "{") && end > 0 {
		digits, size = rest[1:end], end+1
	} else if n := map[rune]int{'x': 2, 'u': 4}[kind]; len(rest) >= n {
		digits, size = rest[:n], n
	}
	v, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || digits[0] == '+' {
		return nil, 0, p.fail(at, "want \\xHH, \\uHHHH or \\%c{H…} with hexadecimal digits", kind)
	}
	if v == 0 || v > math.MaxInt32 || !utf8.ValidRune(rune(v)) {
		return nil, 0, p.fail(at, "%X is no character that an output can have", v)
	}
	p.pos += size
	return nil, rune(v), nil
}

func (p *regexParser) class() (*regexNode, error) {
	at := p.pos
	p.pos++
	negated := strings.HasPrefix(p.src[p.pos:], "^")
	if negated {
		p.pos++
	}
	var set runeSet
	for first := true; ; first = false {
		if p.pos == len(p.src) {
			return nil, p.fail(at, "the class is not closed")
		}
		if p.src[p.pos] == ']' {
			if first {
				return nil, p.fail(at, "the class is empty: write \\] for the character")
			}
			p.pos++
			break
		}
		if strings.HasPrefix(p.src[p.pos:], "[:") {
			return nil, p.fail(p.pos, "named classes cannot be expressed: write the characters, or \\[ for the bracket")
		}
		begin := p.pos
		more, lo, err := p.member()
		if err != nil {
			return nil, err
		}
		hi := lo
		if rest := p.src[p.pos:]; len(rest) > 1 && rest[0] == '-' && rest[1] != ']' {
			p.pos++
			end, last, err := p.member()
			if err != nil {
				return nil, err
			}
			if more != nil || end != nil || last < lo {
				return nil, p.fail(begin, "%s is no range: write \\- for the character", p.src[begin:p.pos])
			}
			hi = last
		}
		if more == nil {
			more = runeSet{{lo, hi}}
		}
		set = append(set, more...)
	}
	set = set.normal()
	if negated {
		set = set.invert()
	}
	if len(set) == 0 {
		return nil, p.fail(at, "no character is in the class")
	}
	return &regexNode{kind: regexClass, set: set}, nil
}

// member reads one character of a class, or an escape that stands for several.
func (p *regexParser) member() (runeSet, rune, error) {
	if p.src[p.pos] == '\\' {
		return p.escape(true)
	}
	r, n := utf8.DecodeRuneInString(p.src[p.pos:])
	if r == 0 {
		return nil, 0, p.fail(p.pos, "a NUL cannot be part of the output")
	}
	p.pos += n
	return nil, r, nil
}
