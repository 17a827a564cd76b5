#include "shim_context.h"

#include <vector>

int32_t lm_adapter_load(llama_model * m, const char * path, llama_adapter_lora ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        lm::log_capture log;
        *out = llama_adapter_lora_init(m, path);
        if (*out != nullptr) {
            return LM_OK;
        }
        return lm::fail(log.out_of_memory() ? LM_ERR_MEMORY : LM_ERR, log.text("llama.cpp gave no reason"), err);
    });
}

void lm_adapter_free(llama_adapter_lora * a) {
    lm::guard(nullptr, [&]() -> int32_t {
        llama_adapter_lora_free(a);
        return LM_OK;
    });
}

int32_t lm_context_set_adapters(lm_context * c, llama_adapter_lora ** adapters, float * scales, size_t n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const int32_t code = llama_set_adapters_lora(c->ctx, adapters, n, scales);
        return code == 0 ? LM_OK : lm::fail(LM_ERR, "llama_set_adapters_lora returned " + std::to_string(code), err);
    });
}

// ---- the whole state

static size_t count_bytes(size_t (*f)(llama_context *, uint8_t *, size_t), lm_context * c, uint8_t * data, size_t n) {
    size_t done = 0;
    lm::guard(nullptr, [&]() -> int32_t {
        done = f(c->ctx, data, n);
        return LM_OK;
    });
    return done;
}

size_t lm_state_size(lm_context * c) {
    return count_bytes([](llama_context * ctx, uint8_t *, size_t) { return llama_state_get_size(ctx); }, c, nullptr, 0);
}

size_t lm_state_get(lm_context * c, uint8_t * dst, size_t n) {
    return count_bytes([](llama_context * ctx, uint8_t * p, size_t size) { return llama_state_get_data(ctx, p, size); }, c, dst, n);
}

size_t lm_state_set(lm_context * c, const uint8_t * src, size_t n) {
    return count_bytes([](llama_context * ctx, uint8_t * p, size_t size) { return llama_state_set_data(ctx, p, size); }, c,
                       const_cast<uint8_t *>(src), n);
}
