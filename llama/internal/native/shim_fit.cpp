// Where a model's tensors go, and how much memory that takes, before any of it is allocated.
#include "shim_internal.h"

#include "fit.h"
#include "ggml-backend.h"
#include "llama.h"

#include <map>
#include <memory>
#include <vector>

// Of llama.cpp's src/llama-ext.h, which is not among the installed headers; TestExtHeader compares.
struct llama_memory_breakdown_data {
    size_t model   = 0;
    size_t context = 0;
    size_t compute = 0;
};
using llama_memory_breakdown = std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>;
LLAMA_API int32_t llama_model_n_devices(const struct llama_model * model);
LLAMA_API ggml_backend_dev_t llama_model_get_device(const struct llama_model * model, int i);
LLAMA_API llama_memory_breakdown llama_get_memory_breakdown(const struct llama_context * ctx);

namespace {

struct free_model {
    void operator()(llama_model * m) const { llama_model_free(m); }
};
struct free_context {
    void operator()(llama_context * c) const { llama_free(c); }
};

ggml_backend_dev_t no_devices[] = {nullptr};

} // namespace

struct lm_plan {
    std::string                                    path;
    lm_placement                                   where;
    bool                                           cpu_only;
    std::vector<ggml_backend_dev_t>                devices; // null-terminated; empty = all
    std::vector<float>                             split;
    std::vector<llama_model_tensor_buft_override>  overrides;
    std::vector<llama_model_kv_override>           no_vocab; // loading the vocabulary takes most of a dry run's time
    std::unique_ptr<llama_model, free_model>       dry;      // without tensors' data

    llama_model_params dry_params() {
        llama_model_params mp = llama_model_default_params();
        lm::place(this, &mp);
        mp.no_alloc  = true;
        mp.load_mode = LLAMA_LOAD_MODE_NONE;
        if (!no_vocab.empty()) {
            mp.kv_overrides = no_vocab.data();
        }
        return mp;
    }
};

void lm::place(const lm_plan * plan, llama_model_params * mp) {
    if (plan == nullptr) {
        return;
    }
    mp->n_gpu_layers = plan->where.n_gpu_layers;
    mp->split_mode   = static_cast<llama_split_mode>(plan->where.split_mode);
    mp->main_gpu     = plan->where.main_gpu;
    if (plan->cpu_only) {
        mp->devices = no_devices;
    } else if (!plan->devices.empty()) {
        mp->devices = const_cast<ggml_backend_dev_t *>(plan->devices.data());
    }
    if (!plan->split.empty()) {
        mp->tensor_split = plan->split.data();
    }
    if (!plan->overrides.empty()) {
        mp->tensor_buft_overrides = plan->overrides.data();
    }
}

llama_context_params lm::context_params(const lm_context_params * p) {
    llama_context_params cp = llama_context_default_params();
    cp.n_ctx                = p->n_ctx;
    cp.n_batch              = p->n_batch;
    cp.n_ubatch             = p->n_ubatch;
    cp.n_seq_max            = p->n_seq_max;
    cp.n_outputs_max        = p->n_outputs_max;
    cp.n_threads            = p->n_threads;
    cp.n_threads_batch      = p->n_threads_batch;
    cp.flash_attn_type      = static_cast<llama_flash_attn_type>(p->flash_attn);
    cp.type_k               = static_cast<ggml_type>(p->type_k);
    cp.type_v               = static_cast<ggml_type>(p->type_v);
    cp.kv_unified           = p->kv_unified;
    cp.swa_full             = p->swa_full;
    cp.embeddings           = p->embeddings;
    cp.pooling_type         = static_cast<enum llama_pooling_type>(p->pooling_type);
    cp.offload_kqv          = p->offload_kqv;
    cp.op_offload           = p->op_offload;
    return cp;
}

int32_t lm_plan_new(const char * path, const lm_placement * where, const char * devices, size_t n_devices, const float * tensor_split, size_t n_split,
                    const char * arch, int64_t n_vocab, lm_plan ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        auto p      = std::make_unique<lm_plan>();
        p->path     = path;
        p->where    = *where;
        p->cpu_only = where->n_gpu_layers == 0;
        for (const char * name = devices; name < devices + n_devices; name += strlen(name) + 1) {
            p->devices.push_back(ggml_backend_dev_by_name(name));
            if (p->devices.back() == nullptr) {
                return lm::fail(LM_ERR, std::string("there is no device ") + name, err);
            }
        }
        if (!p->devices.empty()) {
            p->devices.push_back(nullptr);
        }
        if (n_split > 0) {
            p->split.assign(tensor_split, tensor_split + n_split);
            p->split.resize(llama_max_devices());
        }
        llama_model_kv_override o = {};
        const int n = snprintf(o.key, sizeof o.key, "%s.vocab_size", arch);
        if (n_vocab > 0 && n > 0 && n < (int) sizeof o.key) {
            o.tag     = LLAMA_KV_OVERRIDE_TYPE_INT;
            o.val_i64 = n_vocab;
            p->no_vocab.push_back(o);
            o     = {};
            o.tag = LLAMA_KV_OVERRIDE_TYPE_STR;
            snprintf(o.key, sizeof o.key, "tokenizer.ggml.model");
            snprintf(o.val_str, sizeof o.val_str, "no_vocab");
            p->no_vocab.push_back(o);
            p->no_vocab.push_back({}); // an empty key ends the list
        }
        *out = p.release();
        return LM_OK;
    });
}

void lm_plan_free(lm_plan * p) {
    lm::guard(nullptr, [&]() -> int32_t {
        delete p;
        return LM_OK;
    });
}

void lm_plan_close_model(lm_plan * p) {
    lm::guard(nullptr, [&]() -> int32_t {
        p->dry.reset();
        return LM_OK;
    });
}

int32_t lm_plan_open_model(lm_plan * p, lm_plan_info * out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        if (p->dry == nullptr) {
            lm::log_capture log(true);
            p->dry.reset(llama_model_load_from_file(p->path.c_str(), p->dry_params()));
            if (p->dry == nullptr) {
                return lm::fail(LM_ERR, log.text("llama.cpp gave no reason"), err);
            }
        }
        const llama_model * m = p->dry.get();
        out->n_layer     = llama_model_n_layer(m);
        out->n_ctx_train = llama_model_n_ctx_train(m);
        out->has_encoder = llama_model_has_encoder(m);
        out->can_map     = true;
        for (int32_t i = 0; i < llama_model_n_devices(m); i++) {
            ggml_backend_dev_props props = {};
            ggml_backend_dev_get_props(llama_model_get_device(m, i), &props);
            out->can_map = out->can_map && props.caps.mmap_support;
        }
        return LM_OK;
    });
}

int32_t lm_plan_measure(lm_plan * p, const lm_context_params * cp, lm_device_memory * out, int32_t cap, int32_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        lm::log_capture log(true);
        std::unique_ptr<llama_context, free_context> ctx(llama_init_from_model(p->dry.get(), lm::context_params(cp)));
        if (ctx == nullptr) {
            return lm::fail(LM_ERR, log.text("llama.cpp gave no reason"), err);
        }
        const int32_t n_dev = llama_model_n_devices(p->dry.get());
        if (n_dev + 1 > cap) {
            return lm::fail(LM_ERR, "more devices than this program knows", err);
        }
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        for (int32_t i = 0; i <= n_dev; i++) {
            out[i] = {};
            lm::describe(i < n_dev ? llama_model_get_device(p->dry.get(), i) : cpu, &out[i].device);
        }
        for (const auto & [buft, size] : llama_get_memory_breakdown(ctx.get())) {
            // everything that is on none of the model's devices is in main memory: host buffers, repacked weights
            int32_t to = n_dev;
            if (!ggml_backend_buft_is_host(buft)) {
                ggml_backend_dev_t dev = ggml_backend_buft_get_device(buft);
                for (int32_t i = 0; i < n_dev; i++) {
                    if (dev == llama_model_get_device(p->dry.get(), i)) {
                        to = i;
                    }
                }
            }
            (ggml_backend_buft_is_host(buft) ? out[to].mappable : out[to].weights) += size.model;
            out[to].context += size.context;
            out[to].compute += size.compute;
        }
        *n_out = n_dev + 1;
        return LM_OK;
    });
}

int32_t lm_plan_fit(lm_plan * p, lm_context_params * cp, const uint64_t * margins, int32_t n_margins, uint32_t n_ctx_min,
                    int32_t * n_gpu_layers, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        p->dry.reset();
        std::vector<size_t> keep(margins, margins + n_margins);
        keep.resize(llama_max_devices(), n_margins > 0 ? margins[n_margins - 1] : 0);
        std::vector<float>                            split(llama_max_devices());
        std::vector<llama_model_tensor_buft_override> overrides(llama_max_tensor_buft_overrides());

        lm::log_capture      log(true);
        llama_model_params   mp = p->dry_params();
        llama_context_params c  = lm::context_params(cp);
        const auto status = common_fit_params(p->path.c_str(), &mp, &c, split.data(), overrides.data(), keep.data(), n_ctx_min, nullptr,
                                              GGML_LOG_LEVEL_ERROR);
        if (status == COMMON_PARAMS_FIT_STATUS_ERROR) {
            return lm::fail(LM_ERR, log.text("llama.cpp gave no reason"), err);
        }
        cp->n_ctx = c.n_ctx;
        if (status == COMMON_PARAMS_FIT_STATUS_SUCCESS) {
            p->where.n_gpu_layers = mp.n_gpu_layers;
            if (mp.tensor_split == split.data()) { // else it is the caller's

                p->split = split;
            }
            if (mp.tensor_buft_overrides != nullptr) {
                p->overrides = overrides;
            }
        }
        *n_gpu_layers = p->where.n_gpu_layers;
        return LM_OK;
    });
}
