package llama

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A GBNF grammar as far as it must be known before llama.cpp may see it. llama.cpp's own parser recurses per bracket, writes
// what it refuses to stderr, looks for left recursion in exponential time, and does not find it behind a rule that is empty
// by way of another: such a grammar grows its stacks until memory ends. So the syntax is read here first.

// gbnf holds a grammar's rules by number; a rule is a choice of sequences.
type gbnf struct {
	names  map[string]int
	rules  []gbnfAlts // nil = used but not defined
	tokens []string   // <name> and <[id]>, to be looked up in a vocabulary
	size   int        // elements after llama.cpp has written out the repetitions
	src    string
	at     []int // where in src each rule is defined, or else used first
}

type (
	gbnfAlts []gbnfSeq
	gbnfSeq  []gbnfItem
)

// gbnfItem is a terminal, a rule, a group or a repetition of one of these.
type gbnfItem struct {
	kind     gbnfKind
	rule     int       // of gbnfRule
	alts     gbnfAlts  // of gbnfGroup
	of       *gbnfItem // of gbnfRepeat
	min, max int       // of gbnfRepeat; max < 0 = any number
	size     int       // elements that a repetition copies
	class    int       // of a terminal: characters and ranges of a class
}

type gbnfKind int

const (
	gbnfTerminal gbnfKind = iota
	gbnfRule
	gbnfGroup
	gbnfRepeat
)

const (
	maxGrammarSize   = 1 << 20 // elements
	maxGrammarRepeat = 2000    // MAX_REPETITION_THRESHOLD
	optionalSize     = 3       // elements of a rule beside its content: the next one, or nothing, and its end
)

type gbnfParser struct {
	g   *gbnf
	src string
	pos int
}

// gbnfError carries a syntax error up to parseGBNF.
type gbnfError struct{ text string }

// fault is an error at an offset of the grammar.
func (g *gbnf) fault(offset int, format string, args ...any) error {
	before := g.src[:min(offset, len(g.src))]
	line := 1 + strings.Count(before, "\n")
	column := len(before) - strings.LastIndexByte(before, '\n') // where there is none, that is -1
	return &PlaceError{What: "grammar", Place: fmt.Sprintf("%d:%d", line, column), Text: fmt.Sprintf(format, args...)}
}

func parseGBNF(src string) (g *gbnf, err error) {
	p := &gbnfParser{g: &gbnf{names: map[string]int{}, src: src}, src: src}
	defer func() {
		if e := recover(); e != nil {
			ge, ok := e.(gbnfError)
			if !ok {
				panic(e)
			}
			g, err = nil, p.g.fault(p.pos, "%s", ge.text)
		}
	}()
	for p.space(true); p.pos < len(src); p.space(true) {
		p.rule()
	}
	for n, alts := range p.g.rules {
		if alts == nil {
			return nil, p.g.fault(p.g.at[n], "rule %q is not defined", p.g.nameOf(n))
		}
	}
	if _, ok := p.g.names["root"]; !ok {
		return nil, fmt.Errorf("no rule \"root\"")
	}
	return p.g, nil
}

func (p *gbnfParser) fail(format string, args ...any) {
	panic(gbnfError{fmt.Sprintf(format, args...)})
}

// peek gives the next byte, 0 at the end.
func (p *gbnfParser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *gbnfParser) space(newlines bool) {
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == ' ' || c == '\t' || newlines && (c == '\n' || c == '\r'):
			p.pos++
		case c == '#':
			for p.pos < len(p.src) && p.src[p.pos] != '\n' && p.src[p.pos] != '\r' {
				p.pos++
			}
		default:
			return
		}
	}
}

func (p *gbnfParser) name() string {
	begin := p.pos
	for p.pos < len(p.src) && isGBNFWord(p.src[p.pos]) {
		p.pos++
	}
	if p.pos == begin {
		p.fail("expected a rule's name at %q", p.rest())
	}
	return p.src[begin:p.pos]
}

func isGBNFWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

func (p *gbnfParser) rest() string {
	r := p.src[p.pos:]
	if len(r) > 20 {
		r = strings.ToValidUTF8(r[:20], "") + "…"
	}
	return r
}

// number gives the rule's number, a new one for a new name.
func (p *gbnfParser) number(name string) int {
	n, ok := p.g.names[name]
	if !ok {
		n = len(p.g.rules)
		p.g.names[name] = n
		p.g.rules = append(p.g.rules, nil)
		p.g.at = append(p.g.at, p.pos-len(name))
	}
	return n
}

func (g *gbnf) nameOf(n int) string {
	for name, i := range g.names {
		if i == n {
			return name
		}
	}
	return "?"
}

func (p *gbnfParser) rule() {
	begin := p.pos
	n := p.number(p.name())
	p.g.at[n] = begin
	p.space(false)
	if !strings.HasPrefix(p.src[p.pos:], "::=") {
		p.fail("expected ::= at %q", p.rest())
	}
	p.pos += 3
	p.space(true)
	p.g.rules[n] = p.alternates(0)
	if c := p.peek(); p.pos < len(p.src) && c != '\n' && c != '\r' {
		p.fail("expected the rule's end at %q", p.rest())
	}
}

func (p *gbnfParser) alternates(depth int) gbnfAlts {
	if depth > maxNesting {
		p.fail("brackets are nested deeper than %d levels", maxNesting)
	}
	alts := gbnfAlts{p.sequence(depth)}
	for p.peek() == '|' {
		p.pos++
		p.space(true)
		alts = append(alts, p.sequence(depth))
	}
	return alts
}

// add counts elements against the limit.
func (p *gbnfParser) add(n int) {
	if p.g.size += n; p.g.size > maxGrammarSize {
		p.fail("the grammar is too large: its repetitions make more than %d elements", maxGrammarSize)
	}
}

func (p *gbnfParser) sequence(depth int) gbnfSeq {
	seq := gbnfSeq{}
	nested := depth > 0
	for p.pos < len(p.src) {
		var item gbnfItem
		switch c := p.peek(); {
		case c == '"':
			item = p.chars('"')
		case c == '[':
			item = p.chars(']')
		case c == '<' || c == '!':
			item = p.token()
		case c == '.':
			p.pos++
			item = gbnfItem{kind: gbnfTerminal, size: 1}
		case isGBNFWord(c):
			item = gbnfItem{kind: gbnfRule, rule: p.number(p.name()), size: 1}
		case c == '(':
			p.pos++
			p.space(true)
			item = gbnfItem{kind: gbnfGroup, alts: p.alternates(depth + 1), size: 1}
			if p.peek() != ')' {
				p.fail("expected ) at %q", p.rest())
			}
			p.pos++
		case c == '*' || c == '+' || c == '?' || c == '{':
			lo, hi := p.repetition(nested)
			if len(seq) == 0 || seq[len(seq)-1].size == 0 {
				p.fail("nothing to repeat before %q", p.rest())
			}
			last := &seq[len(seq)-1]
			of := *last
			p.add(of.size * max(lo, 1))
			if hi != lo { // a rule for each that may be missing
				p.add((of.size + optionalSize) * max(hi-lo, 1))
			}
			*last = gbnfItem{kind: gbnfRepeat, of: &of, min: lo, max: hi, size: of.size * max(lo, 1)}
			continue
		default:
			return seq
		}
		p.space(nested)
		p.add(item.size)
		seq = append(seq, item)
	}
	return seq
}

// repetition reads *, +, ? or {m,n}; hi < 0 means any number.
func (p *gbnfParser) repetition(nested bool) (lo, hi int) {
	c := p.peek()
	p.pos++
	switch c {
	case '*':
		lo, hi = 0, -1
	case '+':
		lo, hi = 1, -1
	case '?':
		lo, hi = 0, 1
	default:
		p.space(nested)
		lo = p.integer()
		hi = lo
		p.space(nested)
		if p.peek() == ',' {
			p.pos++
			p.space(nested)
			hi = -1
			if c := p.peek(); '0' <= c && c <= '9' {
				hi = p.integer()
			}
			p.space(nested)
		}
		if p.peek() != '}' {
			p.fail("expected } at %q", p.rest())
		}
		p.pos++
		if hi >= 0 && hi < lo {
			p.fail("{%d,%d} is no repetition", lo, hi)
		}
	}
	p.space(nested)
	if lo > maxGrammarRepeat {
		p.fail("%d repetitions are more than %d", lo, maxGrammarRepeat)
	}
	if hi > maxGrammarRepeat {
		hi = -1 // as llama.cpp does
	}
	return lo, hi
}

func (p *gbnfParser) integer() int {
	begin, n := p.pos, 0
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		n = min(n*10+int(c-'0'), 1<<30)
		p.pos++
	}
	if p.pos == begin {
		p.fail("expected a number at %q", p.rest())
	}
	return n
}

// chars reads a literal or a character class up to its closing character.
func (p *gbnfParser) chars(closing byte) gbnfItem {
	literal := closing == '"'
	p.pos++
	if !literal && p.peek() == '^' {
		p.pos++
	}
	n := 0
	for p.peek() != closing {
		p.char()
		n++
		if !literal && p.peek() == '-' && p.pos+1 < len(p.src) && p.src[p.pos+1] != ']' {
			p.pos++
			p.char()
			n++
		}
	}
	p.pos++
	item := gbnfItem{kind: gbnfTerminal, size: n, class: 1}
	if !literal {
		item.class = n
	}
	return item
}

func (p *gbnfParser) char() {
	c := p.peek()
	switch {
	case p.pos >= len(p.src):
		p.fail("unexpected end")
	case c != '\\':
		_, size := utf8.DecodeRuneInString(p.src[p.pos:])
		p.pos += size
		return
	}
	p.pos++
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[p.peek()]
	if digits == 0 {
		if c := p.peek(); c == 0 || !strings.ContainsRune(`trn\"[]-`, rune(c)) {
			p.fail("unknown escape at %q", p.rest())
		}
		p.pos++
		return
	}
	for p.pos++; digits > 0; digits-- {
		if c := p.peek(); c == 0 || !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			p.fail("expected a hexadecimal digit at %q", p.rest())
		}
		p.pos++
	}
}

// token reads <name>, <[id]> or one of them after an exclamation mark.
func (p *gbnfParser) token() gbnfItem {
	if p.peek() == '!' {
		p.pos++
	}
	if p.peek() != '<' {
		p.fail("expected < at %q", p.rest())
	}
	end := strings.IndexByte(p.src[p.pos:], '>')
	if end < 0 {
		p.fail("expected > after %q", p.rest())
	}
	p.g.tokens = append(p.g.tokens, p.src[p.pos:p.pos+end+1])
	p.pos += end + 1
	return gbnfItem{kind: gbnfTerminal, size: 1}
}
