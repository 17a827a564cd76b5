package llama

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// No bytes make the reader of GGUF heads panic, loop or allocate much.
func FuzzGGUF(f *testing.F) {
	f.Add([]byte("GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00k\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00v"))
	f.Add([]byte("GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00k\x09\x00\x00\x00\x08\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = checkGGUF(bytes.NewReader(data), int64(len(data)))
	})
}

// What the limits say about a grammar, a schema or a template takes no time and never panics.
func FuzzLimits(f *testing.F) {
	f.Add(`root ::= "a" (b | [c-d]{2,3})* <[3]> # x`)
	f.Add(`{"a":[1,{"b":"\"}"}]}`)
	f.Add(`{% if x %}{{ a|b("c") }}{% elif y %}{# z #}{% endif %}`)
	f.Fuzz(func(t *testing.T, text string) {
		_ = checkGrammarText(text)
		_, _ = checkSchema([]byte(text), true)
		_ = checkTemplate(text)
	})
}

// Broken texts come back whole, whatever surrounds them, and hold no special text while they are broken.
func FuzzBreaker(f *testing.F) {
	s := &specialTexts{texts: map[string]bool{"<s>": true, "</s>": true, "<|im_end|>": true, "｜x｜": true}, lengths: []int{10, 7, 4, 3}}
	for text := range s.texts {
		s.first[text[0]] = true
	}
	f.Add("a<s>b</s></s>｜x｜", "c<|im_end|>")
	f.Add("<<s>s>", "｜｜x｜x｜")
	f.Fuzz(func(t *testing.T, one, two string) {
		one, two = strings.ToValidUTF8(one, "?"), strings.ToValidUTF8(two, "?")
		b, err := newBreaker(s, one, two)
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := json.Marshal(map[string]string{"k" + two: one})
		if err != nil {
			t.Fatal(err)
		}
		broken := b.text(one) + "<s>" + b.text(two) + "</s>" + string(b.json(quoted))
		for text := range s.texts {
			if strings.Contains(b.text(one), text) {
				t.Fatalf("%q still holds %q", b.text(one), text)
			}
		}
		parts, err := b.segments(broken)
		if err != nil {
			t.Fatal(err)
		}
		var whole string
		for i, p := range parts {
			whole += p.text
			if i > 0 && p.plain && !s.texts[p.text] {
				t.Fatalf("plain part %q", p.text)
			}
		}
		rest, ok := strings.CutPrefix(whole, one+"<s>"+two+"</s>")
		if !ok {
			t.Fatalf("%q begins not with %q and %q", whole, one, two)
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(rest), &back); err != nil || back["k"+two] != one {
			t.Fatalf("%q does not hold %q: %v", rest, one, err)
		}
	})
}
