package main

import (
	"math/rand/v2"
	"strings"
)

// words are one token each in the default model's vocabulary, behind a space.
var words = strings.Fields(`time person year way day thing man world life hand part child eye woman place work week case point
company number group problem fact water room mother area money story month lot right study book word business issue side kind head
house service friend father power hour game line end member law car city community name president team minute idea body information
school state family student country system program question government night home air force food light paper music river table
market field voice ground center road garden winter summer bridge window letter doctor engine forest island machine ocean planet
animal color shape sound stone metal glass paint wheel train plane ship horse bird fish tree flower fruit bread sugar salt oil`)

// text is about so many tokens of plain words, always the same for the same seed and
// different from its first word on for another.
func text(seed uint64, tokens int) string {
	const sentence = 11 // ten words and a full stop
	random := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for n := 0; n < tokens; n++ {
		switch {
		case n%sentence == sentence-1:
			b.WriteByte('.')
			continue
		case n > 0:
			b.WriteByte(' ')
		}
		b.WriteString(words[random.IntN(len(words))])
	}
	return b.String()
}
