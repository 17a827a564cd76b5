#include "shim_context.h"
#include "shim_sampler.h"

#include <memory>

// Read by ggml's worker threads between graph nodes; never enters Go.
static bool on_abort(void * data) { return static_cast<std::atomic<bool> *>(data)->load(std::memory_order_relaxed); }

int32_t lm_context_new(llama_model * m, const lm_context_params * p, lm_context ** out, lm_context_info * info, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        auto c = std::make_unique<lm_context>();

        llama_context_params cp = lm::context_params(p);
        cp.abort_callback      = on_abort;
        cp.abort_callback_data = &c->abort;
        c->done_fd             = p->done_fd;

        lm::log_capture log;
        c->ctx = llama_init_from_model(m, cp);
        if (c->ctx == nullptr) {
            return lm::fail(log.out_of_memory() ? LM_ERR_MEMORY : LM_ERR, log.text("llama.cpp gave no reason"), err);
        }
        const int32_t code = lm::attach_threads(c.get(), p, err);
        if (code != LM_OK) {
            return code;
        }
        info->n_ctx     = llama_n_ctx(c->ctx);
        info->n_ctx_seq = llama_n_ctx_seq(c->ctx);
        info->n_batch   = llama_n_batch(c->ctx);
        info->n_ubatch  = llama_n_ubatch(c->ctx);
        info->n_seq_max = llama_n_seq_max(c->ctx);
        llama_memory_t mem = llama_get_memory(c->ctx);
        info->has_memory   = mem != nullptr;
        info->can_shift    = mem != nullptr && llama_memory_can_shift(mem);
        lm::start_decode_thread(c.get());
        *out = c.release();
        return LM_OK;
    });
}

void lm_context_free(lm_context * c) {
    lm::guard(nullptr, [&]() -> int32_t {
        delete c;
        return LM_OK;
    });
}

void lm_context_abort(lm_context * c, bool on) { c->abort.store(on, std::memory_order_relaxed); }

void lm_context_hold(lm_context * c, bool on) { c->hold.store(on, std::memory_order_relaxed); }

void lm_context_times(const lm_context * c, int64_t * decode, int64_t * sample) {
    *decode = c->decode_ns.load(std::memory_order_relaxed);
    *sample = c->sample_ns.load(std::memory_order_relaxed);
}

int32_t lm_sample(lm_context * c, lm_sampler * s, int32_t index, int32_t * token, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        *token = lm::sample(s, c->ctx, index, llama_get_logits_ith(c->ctx, index));
        return LM_OK;
    });
}

int32_t lm_logits(lm_context * c, int32_t index, float * out, int32_t n_vocab, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const float * l = llama_get_logits_ith(c->ctx, index);
        if (l == nullptr) {
            return lm::fail(LM_ERR, "no logits at this index", err);
        }
        memcpy(out, l, n_vocab * sizeof(float));
        return LM_OK;
    });
}

int32_t lm_logits_at(lm_context * c, int32_t index, float ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        *out = llama_get_logits_ith(c->ctx, index);
        return *out != nullptr ? LM_OK : lm::fail(LM_ERR, "no logits at index " + std::to_string(index), err);
    });
}

// Runs f on the context's memory, where it has one; false when f says so or throws.
template <typename F> static bool on_memory(lm_context * c, F && f) {
    return lm::guard(nullptr, [&]() -> int32_t {
               llama_memory_t mem = llama_get_memory(c->ctx);
               return mem == nullptr || f(mem) ? LM_OK : LM_ERR;
           }) == LM_OK;
}

bool lm_memory_clear(lm_context * c, bool data) {
    return on_memory(c, [&](llama_memory_t mem) {
        llama_memory_clear(mem, data);
        return true;
    });
}

bool lm_memory_seq_rm(lm_context * c, int32_t seq, int32_t p0, int32_t p1) {
    return on_memory(c, [&](llama_memory_t mem) { return llama_memory_seq_rm(mem, seq, p0, p1); });
}

bool lm_memory_seq_cp(lm_context * c, int32_t src, int32_t dst, int32_t p0, int32_t p1) {
    return on_memory(c, [&](llama_memory_t mem) {
        llama_memory_seq_cp(mem, src, dst, p0, p1);
        return true;
    });
}

bool lm_memory_seq_keep(lm_context * c, int32_t seq) {
    return on_memory(c, [&](llama_memory_t mem) {
        llama_memory_seq_keep(mem, seq);
        return true;
    });
}

bool lm_memory_seq_add(lm_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t delta) {
    return on_memory(c, [&](llama_memory_t mem) {
        llama_memory_seq_add(mem, seq, p0, p1, delta);
        return true;
    });
}

bool lm_memory_seq_div(lm_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t d) {
    return on_memory(c, [&](llama_memory_t mem) {
        llama_memory_seq_div(mem, seq, p0, p1, d);
        return true;
    });
}

void lm_memory_pos(lm_context * c, int32_t seq, int32_t * min, int32_t * max) {
    *min = *max = -1;
    on_memory(c, [&](llama_memory_t mem) {
        *min = llama_memory_seq_pos_min(mem, seq);
        *max = llama_memory_seq_pos_max(mem, seq);
        return true;
    });
}

// Runs f, which gives a number of bytes; 0 when it throws.
template <typename F> static size_t count_bytes(F && f) {
    size_t n = 0;
    lm::guard(nullptr, [&]() -> int32_t {
        n = f();
        return LM_OK;
    });
    return n;
}

size_t lm_state_seq_size(lm_context * c, int32_t seq, uint32_t flags) {
    return count_bytes([&] { return llama_state_seq_get_size_ext(c->ctx, seq, flags); });
}

size_t lm_state_seq_get(lm_context * c, int32_t seq, uint8_t * dst, size_t n, uint32_t flags) {
    return count_bytes([&] { return llama_state_seq_get_data_ext(c->ctx, dst, n, seq, flags); });
}

size_t lm_state_seq_set(lm_context * c, int32_t seq, const uint8_t * src, size_t n, uint32_t flags) {
    return count_bytes([&] { return llama_state_seq_set_data_ext(c->ctx, src, n, seq, flags); });
}
