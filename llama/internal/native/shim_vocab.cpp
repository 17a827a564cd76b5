#include "shim_internal.h"

#include "llama.h"

#include <vector>

int32_t lm_vocab_pieces(const llama_model * m, char ** pieces, uint32_t ** ends, uint8_t ** flags, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const llama_vocab *   v = llama_model_get_vocab(m);
        const int32_t         n = llama_vocab_n_tokens(v);
        std::string           text;
        std::vector<char>     buf(64);
        std::vector<uint32_t> end(n);
        std::vector<uint8_t>  flag(n);
        for (int32_t t = 0; t < n; t++) {
            int32_t len = llama_token_to_piece(v, t, buf.data(), buf.size(), 0, true);
            if (len < 0) {
                buf.resize(-len);
                len = llama_token_to_piece(v, t, buf.data(), buf.size(), 0, true);
            }
            if (len < 0) {
                throw std::runtime_error("no text for token " + std::to_string(t));
            }
            text.append(buf.data(), len);
            end[t] = (uint32_t) text.size();

            const bool    hidden = len > 0 && llama_token_to_piece(v, t, buf.data(), buf.size(), 0, false) == 0;
            const int32_t attr   = llama_vocab_get_attr(v, t);
            flag[t] = (llama_vocab_is_eog(v, t) ? LM_TOKEN_EOG : 0) | (llama_vocab_is_control(v, t) ? LM_TOKEN_CONTROL : 0) |
                      (hidden ? LM_TOKEN_HIDDEN : 0) |
                      // the texts that only tokenising with parse_special matches
                      (attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN) ? LM_TOKEN_SPECIAL : 0) |
                      (attr & LLAMA_TOKEN_ATTR_USER_DEFINED ? LM_TOKEN_SPLITS : 0);
        }
        *pieces = lm::copy(text.data(), text.size());
        *ends   = reinterpret_cast<uint32_t *>(lm::copy(reinterpret_cast<char *>(end.data()), end.size() * sizeof end[0]));
        *flags  = reinterpret_cast<uint8_t *>(lm::copy(reinterpret_cast<char *>(flag.data()), flag.size()));
        if (*pieces == nullptr || *ends == nullptr || *flags == nullptr) {
            throw std::bad_alloc();
        }
        return LM_OK;
    });
}

int32_t lm_vocab_text(const llama_model * m, int32_t token, char ** out, size_t * n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        lm::give(llama_vocab_get_text(llama_model_get_vocab(m), token), out, n);
        return LM_OK;
    });
}

int32_t lm_tokenize(const llama_model * m, const char * text, size_t n, bool add_special, bool parse_special, int32_t ** out,
                    size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const llama_vocab *      v = llama_model_get_vocab(m);
        std::vector<llama_token> toks(n / 2 + 16);
        int32_t got = llama_tokenize(v, text, (int32_t) n, toks.data(), (int32_t) toks.size(), add_special, parse_special);
        if (got == INT32_MIN) {
            throw std::runtime_error("text too long");
        }
        if (got < 0) {
            toks.resize(-got);
            got = llama_tokenize(v, text, (int32_t) n, toks.data(), (int32_t) toks.size(), add_special, parse_special);
        }
        if (got < 0) {
            throw std::runtime_error("tokenizer gave two different lengths");
        }
        *out = reinterpret_cast<int32_t *>(lm::copy(reinterpret_cast<char *>(toks.data()), got * sizeof toks[0]));
        if (*out == nullptr) {
            throw std::bad_alloc();
        }
        *n_out = got;
        return LM_OK;
    });
}

int32_t lm_detokenize(const llama_model * m, const int32_t * tokens, size_t n, bool remove_special, bool unparse_special, char ** out,
                      size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const llama_vocab * v = llama_model_get_vocab(m);
        std::string         text(n * 8 + 16, '\0');
        int32_t got = llama_detokenize(v, tokens, (int32_t) n, &text[0], (int32_t) text.size(), remove_special, unparse_special);
        if (got < 0) {
            text.resize(-got);
            got = llama_detokenize(v, tokens, (int32_t) n, &text[0], (int32_t) text.size(), remove_special, unparse_special);
        }
        if (got < 0) {
            throw std::runtime_error("detokenizer gave two different lengths");
        }
        text.resize(got);
        lm::give(text, out, n_out);
        return LM_OK;
    });
}
