package llama

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// A chat template renders one flat string, in which the text of a user that reads like a control token cannot be told from a
// control token of the template. So such texts are broken before rendering by marks that no template changes and nobody can
// guess, and joined again after it; what lay between the marks is tokenised without special parsing.

// specialTexts finds the texts that only tokenising with parseSpecial turns into tokens.
type specialTexts struct {
	texts   map[string]bool
	lengths []int // of texts, longest first
	first   [256]bool
}

func (v *Vocab) specialTexts() (*specialTexts, error) {
	if err := v.load(); err != nil {
		return nil, err
	}
	return v.textsOf(native.TokenSpecial), nil
}

// textsOf needs a loaded vocabulary.
func (v *Vocab) textsOf(kinds uint8) *specialTexts {
	s := &specialTexts{texts: map[string]bool{}}
	for t, flags := range v.pieces.Flags {
		if flags&kinds == 0 {
			continue
		}
		if text := string(v.piece(Token(t))); text != "" && !s.texts[text] {
			s.texts[text] = true
			s.first[text[0]] = true
			if !slices.Contains(s.lengths, len(text)) {
				s.lengths = append(s.lengths, len(text))
			}
		}
	}
	slices.Sort(s.lengths)
	slices.Reverse(s.lengths)
	return s
}

// maxSplits is how many special and user-defined tokens one text may have: llama.cpp walks the list of parts from its
// beginning for each of them, two seconds for as many.
const maxSplits = 1 << 15

// checkSplits refuses a text that llama.cpp would split into too many parts.
func (v *Vocab) checkSplits(text string, parseSpecial bool) error {
	if len(text) <= maxSplits {
		return nil
	}
	if err := v.load(); err != nil {
		return err
	}
	texts := v.splits[0]
	if parseSpecial {
		texts = v.splits[1]
	}
	splits := 0
	for i := 0; i < len(text); {
		n := texts.at(text, i)
		if n > 0 {
			if splits++; splits > maxSplits {
				return errorf(ErrInvalidParam, "tokenize: more than %d special tokens in a text of %d bytes", maxSplits, len(text))
			}
		}
		i += max(n, 1)
	}
	return nil
}

// at gives the length of the longest special text that begins at text[i], or 0.
func (s *specialTexts) at(text string, i int) int {
	if !s.first[text[i]] {
		return 0
	}
	for _, n := range s.lengths {
		if i+n <= len(text) && s.texts[text[i:i+n]] {
			return n
		}
	}
	return 0
}

// maxMarked is how many special texts the messages of one request may have: each is tokenised on its own, and marks make the
// prompt larger.
const maxMarked = 8192

// breaker marks the special texts of one request.
type breaker struct {
	specials        *specialTexts
	begin, mid, end string
	marked          int             // special texts
	fragments       map[string]bool // of keys: whether they are part of a special text
	unmark          *strings.Replacer
}

// newBreaker makes marks that occur in none of the texts. They are digits only, because templates change the case of texts.
func newBreaker(s *specialTexts, texts ...string) (*breaker, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(10), big.NewInt(24), nil))
		if err != nil {
			return nil, errorf(ErrUnsupported, "no random numbers: %v", err)
		}
		nonce := "7" + n.Text(10)
		nonce += strings.Repeat("4", 25-len(nonce))
		if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, nonce) }) {
			continue
		}
		b := &breaker{specials: s, begin: nonce + "1", mid: nonce + "2", end: nonce + "3"}
		b.unmark = strings.NewReplacer(b.begin, "", b.mid, "", b.end, "")
		return b, nil
	}
}

// text breaks the special texts within a text.
func (b *breaker) text(text string) string {
	var out strings.Builder
	done := 0
	for i := 0; i < len(text); {
		n := b.specials.at(text, i)
		if n == 0 {
			i++
			continue
		}
		// after the first rune, so that the parts stay valid UTF-8
		split := i + 1
		for split < i+n && text[split]&0xC0 == 0x80 {
			split++
		}
		out.WriteString(text[done:i])
		out.WriteString(b.begin)
		out.WriteString(text[i:split])
		out.WriteString(b.mid)
		out.WriteString(text[split : i+n])
		out.WriteString(b.end)
		i += n
		done = i
		b.marked++
	}
	if done == 0 {
		return text
	}
	out.WriteString(text[done:])
	return out.String()
}

// key breaks a name or an ID as a whole where it has special texts or may be part of one: some templates write "<" + name + ">"
// for arguments, or an ID and the text behind it without anything between them.
func (b *breaker) key(name string) string {
	if b.text(name) == name && !b.fragment(name) {
		return name
	}
	_, n := utf8.DecodeRuneInString(name)
	return b.begin + name[:n] + b.mid + name[n:] + b.end
}

// fragment says whether a text together with what is around it may be a special text.
func (b *breaker) fragment(text string) (found bool) {
	if text == "" {
		return false
	}
	if known, ok := b.fragments[text]; ok {
		return known
	}
	for s := range b.specials.texts {
		if found = strings.Contains(s, text); found {
			break
		}
		for n := 1; n < min(len(s), len(text)) && !found; n++ {
			found = text[len(text)-n:] == s[:n] || text[:n] == s[len(s)-n:]
		}
		if found {
			break
		}
	}
	if b.fragments == nil {
		b.fragments = map[string]bool{}
	}
	b.fragments[text] = found
	return found
}

// json breaks the special texts within the strings of a valid JSON value and leaves the rest as it is.
func (b *breaker) json(raw []byte) []byte { return b.jsonStrings(raw, b.text) }

// arguments is json for the arguments of a call, the names of which templates write where they like.
func (b *breaker) arguments(raw []byte) []byte { return b.jsonStrings(raw, b.key) }

// schema is json for the parameters of a tool: some templates write "<" + key + ">" for a key that they do not know.
func (b *breaker) schema(raw []byte) []byte {
	return b.jsonStrings(raw, func(key string) string {
		if slices.Contains(schemaKeywords, key) {
			return b.text(key)
		}
		return b.key(key)
	})
}

// schemaKeywords are what templates look for in a schema, so that they must stay as they are.
var schemaKeywords = []string{
	"type", "properties", "required", "items", "enum", "const", "description", "title", "default", "examples", "format", "pattern", "nullable",
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
	"minProperties", "maxProperties", "prefixItems", "additionalProperties", "additionalItems", "patternProperties", "propertyNames",
	"anyOf", "oneOf", "allOf", "not", "if", "then", "else", "$ref", "$defs", "definitions", "$schema", "$id", "$comment", "contains",
	"readOnly", "writeOnly", "deprecated",
}

// jsonStrings breaks strings by text, and the keys of objects by key.
func (b *breaker) jsonStrings(raw []byte, key func(string) string) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(raw); i++ {
		if raw[i] != '"' {
			continue
		}
		begin := i
		for i++; i < len(raw) && raw[i] != '"'; i++ {
			if raw[i] == '\\' {
				i++
			}
		}
		literal := raw[begin:min(i+1, len(raw))]
		var s string
		if json.Unmarshal(literal, &s) != nil {
			continue
		}
		change := b.text
		if rest := bytes.TrimLeft(raw[min(i+1, len(raw)):], " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
			change = key
		}
		if broken := change(s); broken != s {
			out = append(out, raw[done:begin]...)
			out = append(out, quoteJSON(broken)...)
			done = i + 1
		}
	}
	if done == 0 {
		return raw
	}
	return append(out, raw[done:]...)
}

// quoteJSON writes a string without the escapes for HTML, which a template would show to the model.
func quoteJSON(s string) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// segment is a part of a rendered prompt.
type segment struct {
	text  string
	plain bool // tokenise without special parsing
}

// segments takes the marks out of a rendered prompt.
func (b *breaker) segments(prompt string) ([]segment, error) {
	if !strings.Contains(prompt, b.begin) {
		return []segment{{text: prompt}}, nil
	}
	var out []segment
	for prompt != "" {
		head, rest, found := strings.Cut(prompt, b.begin)
		if head != "" {
			out = append(out, segment{text: head})
		}
		if !found {
			break
		}
		span, tail, closed := strings.Cut(rest, b.end)
		if !closed || strings.Contains(span, b.begin) {
			return nil, errorf(ErrChatTemplate, "the chat template cuts texts apart, so that control tokens in them cannot be told from its own")
		}
		out = append(out, segment{text: strings.ReplaceAll(span, b.mid, ""), plain: true})
		prompt = tail
	}
	for _, s := range out {
		if strings.Contains(s.text, b.begin[:len(b.begin)-1]) {
			return nil, errorf(ErrChatTemplate, "the chat template rearranges texts, so that control tokens in them cannot be told from its own")
		}
	}
	return b.join(out), nil
}

// join puts the plain parts that no special text touches back into the text around them: most names of arguments, which are
// tokenised as llama.cpp does it then.
func (b *breaker) join(parts []segment) []segment {
	var flat strings.Builder
	for _, p := range parts {
		flat.WriteString(p.text)
	}
	text := flat.String()
	touched := make([]bool, len(text))
	reach := 0 // the end of the special texts that begin before i
	for i := range len(text) {
		reach = max(reach, i+b.specials.at(text, i))
		touched[i] = i < reach
	}
	out := parts[:0:0]
	at := 0
	for _, p := range parts {
		from := at
		at += len(p.text)
		p.plain = p.plain && slices.Contains(touched[from:at], true)
		if last := len(out) - 1; !p.plain && last >= 0 && !out[last].plain {
			out[last].text += p.text
			continue
		}
		out = append(out, p)
	}
	return out
}

// tokenizeSegments tokenises a prompt whose parts were told apart; one part gives what Tokenize gives.
func (v *Vocab) tokenizeSegments(parts []segment) ([]Token, error) {
	if len(parts) == 1 && !parts[0].plain {
		return v.Tokenize(parts[0].text, true, true)
	}
	var out []Token
	if v.AddBOS() && v.BOS() != NullToken {
		out = append(out, v.BOS())
	}
	for _, p := range parts {
		toks, err := v.Tokenize(p.text, false, !p.plain)
		if err != nil {
			return nil, err
		}
		out = append(out, toks...)
	}
	if v.AddEOS() && v.EOS() != NullToken {
		out = append(out, v.EOS())
	}
	return out, nil
}
