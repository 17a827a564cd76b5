package llama

import "strings"

// RerankTokens gives the tokens of a pair for a context with PoolingRank: the file's template for that, or the two texts
// between the vocabulary's special tokens, as llama-server has it. No part of the texts becomes a control token.
//
// # Errors
//
//   - as [Vocab.Tokenize]; [ErrUnsupported] where neither a template nor a special token could tell the two apart
func (m *Model) RerankTokens(query, document string) ([]Token, error) {
	v := &m.vocab
	if template, ok := m.meta["tokenizer.chat_template.rerank"]; ok {
		return v.rerankTemplate(template, query, document)
	}
	bos, eos, sep := v.BOS(), v.EOS(), Token(m.info.SEP)
	if eos == NullToken {
		eos = sep
	}
	var out []Token
	add := func(wanted bool, t Token) {
		if wanted && t != NullToken {
			out = append(out, t)
		}
	}
	text := func(s string) error {
		toks, err := v.Tokenize(s, false, false)
		out = append(out, toks...)
		return err
	}
	add(v.AddBOS(), bos)
	if err := text(query); err != nil {
		return nil, err
	}
	before := len(out)
	add(v.AddEOS(), eos)
	add(m.info.AddSEP, sep)
	if len(out) == before {
		return nil, errorf(ErrUnsupported, "the vocabulary has no token between a query and a document, and the model no rerank template")
	}
	if err := text(document); err != nil {
		return nil, err
	}
	add(v.AddEOS(), eos)
	return out, nil
}

func (v *Vocab) rerankTemplate(template, query, document string) ([]Token, error) {
	specials, err := v.specialTexts()
	if err != nil {
		return nil, err
	}
	b, err := newBreaker(specials, template, query, document)
	if err != nil {
		return nil, err
	}
	prompt := strings.NewReplacer("{query}", b.text(query), "{document}", b.text(document)).Replace(template)
	if b.marked > maxMarked {
		return nil, errorf(ErrInvalidParam, "more than %d texts of control tokens in a query and a document", maxMarked)
	}
	parts, err := b.segments(prompt)
	if err != nil {
		return nil, err
	}
	var out []Token
	for _, p := range parts {
		toks, err := v.Tokenize(p.text, false, !p.plain)
		if err != nil {
			return nil, err
		}
		out = append(out, toks...)
	}
	return out, nil
}
