#include "shim_internal.h"

#include "llama.h"

#include <vector>

// Implemented in Go; false stops the load.
extern "C" bool lmGoProgress(uintptr_t handle, float fraction);

namespace {

struct progress {
    uintptr_t handle;
    bool      cancelled;
};

bool on_progress(float fraction, void * data) {
    auto * p = static_cast<progress *>(data);
    if (!p->cancelled && !lmGoProgress(p->handle, fraction)) {
        p->cancelled = true; // llama.cpp reports a cancelled load like a failed one
    }
    return !p->cancelled;
}

} // namespace

int32_t lm_model_load(const char * path, const lm_model_params * p, llama_model ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        progress prog = {p->progress, false};

        llama_model_params mp = llama_model_default_params();
        lm::place(p->plan, &mp);
        mp.load_mode     = static_cast<llama_load_mode>(p->load_mode);
        mp.check_tensors = p->check_tensors;
        mp.vocab_only    = p->vocab_only;
        if (p->progress != 0) {
            mp.progress_callback           = on_progress;
            mp.progress_callback_user_data = &prog;
        }

        lm::log_capture log;
        *out = llama_model_load_from_file(path, mp);
        lm::give_back();
        if (*out != nullptr) {
            return LM_OK;
        }
        if (prog.cancelled) {
            return lm::fail(LM_ERR_CANCELLED, "load cancelled", err);
        }
        return lm::fail(log.out_of_memory() ? LM_ERR_MEMORY : LM_ERR, log.text("llama.cpp gave no reason"), err);
    });
}

void lm_model_free(llama_model * m) {
    lm::guard(nullptr, [&]() -> int32_t {
        llama_model_free(m);
        lm::give_back();
        return LM_OK;
    });
}

void lm_model_get_info(const llama_model * m, lm_model_info * out) {
    lm::guard(nullptr, [&]() -> int32_t {
        const llama_vocab * v = llama_model_get_vocab(m);
        *out              = {};
        out->size         = llama_model_size(m);
        out->n_params     = llama_model_n_params(m);
        out->n_ctx_train  = llama_model_n_ctx_train(m);
        out->n_embd       = llama_model_n_embd(m);
        out->n_embd_out   = llama_model_n_embd_out(m);
        out->n_cls_out    = llama_model_n_cls_out(m);
        out->n_layer      = llama_model_n_layer(m);
        out->n_head       = out->n_layer > 0 ? llama_model_n_head(m) : 0; // with the vocabulary alone it would abort
        out->n_swa        = llama_model_n_swa(m);
        out->rope_type    = llama_model_rope_type(m);
        out->has_encoder  = llama_model_has_encoder(m);
        out->has_decoder  = llama_model_has_decoder(m);
        out->is_recurrent = llama_model_is_recurrent(m);
        out->is_hybrid    = llama_model_is_hybrid(m);
        out->is_diffusion = llama_model_is_diffusion(m);
        out->vocab_type   = llama_vocab_type(v);
        out->n_tokens     = llama_vocab_n_tokens(v);
        out->bos          = llama_vocab_bos(v);
        out->eos          = llama_vocab_eos(v);
        out->eot          = llama_vocab_eot(v);
        out->nl           = llama_vocab_nl(v);
        out->sep          = llama_vocab_sep(v);
        out->add_bos      = llama_vocab_get_add_bos(v);
        out->add_eos      = llama_vocab_get_add_eos(v);
        out->add_sep      = llama_vocab_get_add_sep(v);
        llama_model_desc(m, out->desc, sizeof out->desc);
        return LM_OK;
    });
}

int32_t lm_model_meta(const llama_model * m, char ** out, size_t * n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        std::string       all;
        std::vector<char> buf(256);
        // both getters return the full length and cut what does not fit
        auto add = [&](auto && get) {
            int32_t len = get(buf.data(), buf.size());
            if (len >= (int32_t) buf.size()) {
                buf.resize(len + 1);
                len = get(buf.data(), buf.size());
            }
            all.append(buf.data(), len > 0 ? strlen(buf.data()) : 0);
            all.push_back('\0');
        };
        for (int32_t i = 0; i < llama_model_meta_count(m); i++) {
            add([&](char * b, size_t cap) { return llama_model_meta_key_by_index(m, i, b, cap); });
            add([&](char * b, size_t cap) { return llama_model_meta_val_str_by_index(m, i, b, cap); });
        }
        lm::give(all, out, n);
        return LM_OK;
    });
}
