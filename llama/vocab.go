package llama

import (
	"fmt"
	"math"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Vocab is a model's vocabulary and tokenizer (llama_vocab). It is safe for use by many goroutines.
type Vocab struct {
	m *Model

	once   sync.Once
	pieces native.Pieces
	splits [2]*specialTexts // what splits a text before it is tokenised: without and with parseSpecial
	err    error
}

// NTokens is the number of tokens (llama_vocab_n_tokens).
func (v *Vocab) NTokens() int { return int(v.m.info.NTokens) }

// BOS is the token that begins a text, or NullToken (llama_vocab_bos).
func (v *Vocab) BOS() Token { return Token(v.m.info.BOS) }

// EOS is the token that ends a text, or NullToken (llama_vocab_eos).
func (v *Vocab) EOS() Token { return Token(v.m.info.EOS) }

// EOT is the token that ends a turn, or NullToken (llama_vocab_eot).
func (v *Vocab) EOT() Token { return Token(v.m.info.EOT) }

// NL is the token of a line break, or NullToken (llama_vocab_nl).
func (v *Vocab) NL() Token { return Token(v.m.info.NL) }

// AddBOS says whether Tokenize with addSpecial begins with BOS (llama_vocab_get_add_bos).
func (v *Vocab) AddBOS() bool { return v.m.info.AddBOS }

// AddEOS says whether Tokenize with addSpecial ends with EOS (llama_vocab_get_add_eos).
func (v *Vocab) AddEOS() bool { return v.m.info.AddEOS }

// Tokenize turns text into tokens. addSpecial adds BOS and EOS where the model wants them. parseSpecial turns the texts of
// control tokens, such as "<|im_end|>", into those tokens: never set it for text that a user wrote. Text that is not valid
// UTF-8 gives what llama-tokenize gives.
//
// # Errors
//
//   - [ErrNoVocab], [ErrClosed], [ErrInvalidParam] for more than 1 GiB of text or more than 32768 special and user-defined
//     tokens in it, for which llama.cpp's time grows with their square
//
// C: llama_tokenize
func (v *Vocab) Tokenize(text string, addSpecial, parseSpecial bool) ([]Token, error) {
	if err := v.checkSplits(text, parseSpecial); err != nil {
		return nil, err
	}
	if err := v.acquire(); err != nil {
		return nil, err
	}
	defer v.m.release()
	if len(text) > math.MaxInt32/2 {
		return nil, errorf(ErrInvalidParam, "tokenize: %d bytes of text are too many", len(text))
	}
	toks, err := native.Tokenize[Token](v.m.native, nil, text, addSpecial, parseSpecial)
	return toks, fromNative(err, ErrInvalidParam, "tokenize")
}

// Detokenize turns tokens into text, the inverse of Tokenize: removeSpecial drops the BOS and EOS that addSpecial added,
// unparseSpecial writes control tokens as their texts. The text may hold invalid UTF-8 where tokens hold parts of a rune.
//
// # Errors
//
//   - [ErrInvalidToken], [ErrNoVocab], [ErrClosed], [ErrInvalidParam] for so many tokens that their text could have 256 MiB
//
// C: llama_detokenize
func (v *Vocab) Detokenize(tokens []Token, removeSpecial, unparseSpecial bool) (string, error) {
	if err := v.acquire(); err != nil {
		return "", err
	}
	defer v.m.release()
	if longest := v.MaxPieceLen(); len(tokens) > math.MaxInt32/(8*max(longest, 2)) {
		return "", errorf(ErrInvalidParam, "detokenize: %d tokens are too many", len(tokens))
	}
	for _, t := range tokens {
		if err := v.check(t); err != nil {
			return "", err
		}
	}
	s, err := native.Detokenize(v.m.native, tokens, removeSpecial, unparseSpecial)
	return s, fromNative(err, ErrInvalidParam, "detokenize")
}

// AppendPiece appends the bytes of one token to dst; with special, control tokens give their texts, else nothing. A rune
// may be spread over several tokens: see [TextDecoder].
//
// # Errors
//
//   - [ErrInvalidToken], [ErrNoVocab], [ErrClosed] when the model was closed before the first use
//
// C: llama_token_to_piece
func (v *Vocab) AppendPiece(dst []byte, t Token, special bool) ([]byte, error) {
	if err := v.load(); err != nil {
		return dst, err
	}
	if err := v.check(t); err != nil {
		return dst, err
	}
	if !special && v.pieces.Flags[t]&native.TokenHidden != 0 {
		return dst, nil
	}
	return append(dst, v.piece(t)...), nil
}

// MaxPieceLen is the length in bytes of the longest token's text, 0 without a vocabulary. A text of n bytes has at least
// n/MaxPieceLen tokens, except where the vocabulary leaves text out: WordPiece and Unigram shorten white space.
func (v *Vocab) MaxPieceLen() int {
	if v.load() != nil {
		return 0
	}
	longest, begin := 0, uint32(0)
	for _, end := range v.pieces.Ends {
		longest, begin = max(longest, int(end-begin)), end
	}
	return longest
}

// IsEOG says whether the token ends a generation: EOS, EOT and the like (llama_vocab_is_eog). Tokens outside the vocabulary
// do not.
func (v *Vocab) IsEOG(t Token) bool { return v.flag(t, native.TokenEOG) }

// IsControl says whether the token is a control token (llama_vocab_is_control).
func (v *Vocab) IsControl(t Token) bool { return v.flag(t, native.TokenControl) }

// Text gives the token's entry as the vocabulary stores it (llama_vocab_get_text).
func (v *Vocab) Text(t Token) (string, error) {
	if err := v.acquire(); err != nil {
		return "", err
	}
	defer v.m.release()
	if err := v.check(t); err != nil {
		return "", err
	}
	s, err := v.m.native.Text(int32(t))
	return s, fromNative(err, ErrInvalidToken, "text")
}

// checkSpecials refuses a vocabulary without the tokens that it says every text gets: the tokenizer asserts that they are there.
func (v *Vocab) checkSpecials() error {
	i := &v.m.info
	if i.VocabType == native.VocabNone {
		return nil
	}
	wordPiece := i.VocabType == native.VocabWordPiece
	for _, t := range []struct {
		name   string
		id     int32
		needed bool
	}{
		{"BOS", i.BOS, i.AddBOS || wordPiece}, {"EOS", i.EOS, i.AddEOS && !wordPiece}, {"SEP", i.SEP, wordPiece},
	} {
		if t.needed && (t.id < 0 || t.id >= i.NTokens) {
			return fmt.Errorf("the vocabulary wants a %s token with every text and has none", t.name)
		}
	}
	return nil
}

func (v *Vocab) acquire() error {
	if v.m.info.VocabType == native.VocabNone {
		return ErrNoVocab
	}
	return v.m.acquire()
}

func (v *Vocab) check(t Token) error {
	if t < 0 || int(t) >= v.NTokens() {
		return errorf(ErrInvalidToken, "token %d is outside the vocabulary of %d", t, v.NTokens())
	}
	return nil
}

// load reads all pieces in one crossing, so that none is needed per token.
func (v *Vocab) load() error {
	v.once.Do(func() {
		if v.err = v.acquire(); v.err != nil {
			return
		}
		defer v.m.release()
		pieces, err := v.m.native.Pieces(v.NTokens())
		v.pieces, v.err = pieces, fromNative(err, ErrModelFormat, "vocabulary")
		if v.err == nil {
			v.splits[0] = v.textsOf(native.TokenSplits)
			v.splits[1] = v.textsOf(native.TokenSplits | native.TokenSpecial)
		}
	})
	return v.err
}

// piece needs a loaded vocabulary and a checked token.
func (v *Vocab) piece(t Token) []byte {
	begin := uint32(0)
	if t > 0 {
		begin = v.pieces.Ends[t-1]
	}
	return v.pieces.Text[begin:v.pieces.Ends[t]]
}

func (v *Vocab) flag(t Token, f uint8) bool {
	return v.load() == nil && v.check(t) == nil && v.pieces.Flags[t]&f != 0
}
