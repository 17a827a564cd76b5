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
