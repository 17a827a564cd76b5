#include "shim_internal.h"

#include "llama.h"

#include <cstdio>

// Implemented in Go; false stops the work.
extern "C" bool lmGoProgress(uintptr_t handle, float fraction);

static_assert(sizeof(llama_model_quantize_params) == 64, "llama_model_quantize_params changed: review shim_quantize.cpp");

namespace {

struct cancelled : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// llama_model_quantize tells how far it is by what it logs before each tensor and can be stopped by nothing. The line is
// logged by C++ code, with no other thread at work, and what is thrown there llama_model_quantize catches.
struct quantize_watch : lm::log_watch {
    explicit quantize_watch(uintptr_t h) : handle(h) {}

    void line(const char * text) override {
        int at = 0, of = 0;
        if (sscanf(text, "[%d/%d]", &at, &of) == 2 && of > 0 && !lmGoProgress(handle, (at - 1) / (float) of)) {
            stopped = true;
            throw cancelled("cancelled");
        }
    }

    const uintptr_t handle;
    bool            stopped = false;
};

} // namespace

void lm_type_size(uint32_t type, uint64_t * block, uint64_t * bytes) {
    const bool known = type < GGML_TYPE_COUNT; // ggml asserts it
    *block           = known ? ggml_blck_size(static_cast<ggml_type>(type)) : 0;
    *bytes           = known ? ggml_type_size(static_cast<ggml_type>(type)) : 0;
}

int32_t lm_quantize(const char * in, const char * out, const lm_quantize_params * p, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        llama_model_quantize_params qp = llama_model_quantize_default_params();
        qp.nthread                = p->n_threads;
        qp.ftype                  = static_cast<llama_ftype>(p->ftype);
        qp.allow_requantize       = p->allow_requantize;
        qp.pure                   = p->pure;
        qp.quantize_output_tensor = p->quantize_output_tensor;

        lm::log_capture log;
        quantize_watch  watch(p->progress);
        if (llama_model_quantize(in, out, &qp) == 0) {
            return LM_OK;
        }
        return watch.stopped ? lm::fail(LM_ERR_CANCELLED, "cancelled", err) : lm::fail(LM_ERR, log.text("llama.cpp gave no reason"), err);
    });
}
