#include "shim_context.h"

int32_t lm_embeddings(lm_context * c, int32_t first, int32_t n, float * out, int32_t n_embd, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        for (int32_t i = 0; i < n; i++) {
            const float * e = llama_get_embeddings_ith(c->ctx, first + i);
            if (e == nullptr) {
                return lm::fail(LM_ERR, "no embedding at this index", err);
            }
            memcpy(out + (size_t) i * n_embd, e, n_embd * sizeof(float));
        }
        return LM_OK;
    });
}

int32_t lm_embedding_seq(lm_context * c, int32_t seq, float * out, int32_t n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        llama_synchronize(c->ctx);
        const float * e = llama_get_embeddings_seq(c->ctx, seq);
        if (e == nullptr) {
            return lm::fail(LM_ERR, "no embedding of this sequence", err);
        }
        memcpy(out, e, n * sizeof(float));
        return LM_OK;
    });
}

int32_t lm_encode(lm_context * c, const int32_t * token, const int32_t * pos, const int32_t * seq, int32_t n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        std::vector<int32_t>        tokens(token, token + n), positions(pos, pos + n), sequences(seq, seq + n), n_seq(n, 1);
        std::vector<int8_t>         outputs(n, 1);
        std::vector<llama_seq_id *> seq_ptr(n);
        for (int32_t i = 0; i < n; i++) {
            seq_ptr[i] = &sequences[i];
        }
        llama_batch b = {};
        b.n_tokens    = n;
        b.token       = tokens.data();
        b.pos         = positions.data();
        b.n_seq_id    = n_seq.data();
        b.seq_id      = seq_ptr.data();
        b.logits      = outputs.data();

        lm::log_capture log;
        const int32_t   ret = llama_encode(c->ctx, b);
        if (ret != 0) {
            return lm::fail(ret, log.text("llama_encode failed"), err);
        }
        return LM_OK;
    });
}
