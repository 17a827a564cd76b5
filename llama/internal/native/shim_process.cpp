// Process-wide state: logging, abort messages, devices.
#include "shim_internal.h"

#include "common.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"
#include "log.h"

#include <atomic>
#include <cstdio>
#include <mutex>

// Exported by the native library that the build recipe made; a library of other sources or options does not link.
#define LM_CAT_(a, b) a##b
#define LM_CAT(a, b) LM_CAT_(a, b)
extern "C" const char LM_CAT(lm_native_, LM_NATIVE_KEY);
static const char * const volatile key = &LM_CAT(lm_native_, LM_NATIVE_KEY); // volatile: the reference must stay

// Implemented in Go.
extern "C" void lmGoLog(int32_t level, char * text);

// The structs that cross by value between this file and the library must have the layout this shim was written for.
static_assert(sizeof(llama_batch) == 56, "llama_batch changed: review shim_decode.cpp");
static_assert(sizeof(llama_token_data) == 12, "llama_token_data changed: review shim_sampler.cpp");
static_assert(sizeof(llama_model_params) == 80, "llama_model_params changed: review shim_model.cpp and shim_fit.cpp");
static_assert(sizeof(llama_context_params) == 160, "llama_context_params changed: review shim_fit.cpp and shim_context.cpp");

namespace {

std::atomic<int32_t> g_level{GGML_LOG_LEVEL_ERROR + 1};
thread_local int32_t t_level = GGML_LOG_LEVEL_NONE; // of the line being continued
thread_local lm::log_capture * t_capture = nullptr;
thread_local lm::log_watch * t_watch = nullptr;

void on_log(ggml_log_level level, const char * text, void *) {
    if (t_watch != nullptr) {
        t_watch->line(text);
    }
    if (level != GGML_LOG_LEVEL_CONT) {
        t_level = level;
    }
    if (t_capture != nullptr && t_level >= GGML_LOG_LEVEL_WARN) {
        try {
            t_capture->add(text);
        } catch (...) {
            // a line of an error text is lost, not the process
        }
    }
    if (t_capture != nullptr && t_capture->quiet) {
        return;
    }
    if (t_level >= g_level.load(std::memory_order_relaxed)) {
        lmGoLog(level == GGML_LOG_LEVEL_CONT ? -t_level : t_level, const_cast<char *>(text));
    }
}

// Called by a failed GGML_ASSERT; abort() follows whatever this does.
void on_abort(const char * message) {
    fprintf(stderr, "llama.cpp: fatal: %s\n", message);
    fflush(stderr);
}

[[noreturn]] void on_terminate() {
    const char * what = "unknown";
    try {
        if (auto e = std::current_exception()) {
            std::rethrow_exception(e);
        }
    } catch (const std::exception & e) {
        fprintf(stderr, "llama.cpp: fatal: uncaught C++ exception: %s\n", e.what());
        fflush(stderr);
        abort();
    } catch (...) {
    }
    fprintf(stderr, "llama.cpp: fatal: std::terminate (%s)\n", what);
    fflush(stderr);
    abort();
}

} // namespace

namespace lm {

log_capture::log_capture(bool q) : quiet(q), outer(t_capture) { t_capture = this; }
log_capture::~log_capture() { t_capture = outer; }

log_watch::log_watch() { t_watch = this; }
log_watch::~log_watch() { t_watch = nullptr; }

void log_capture::add(const char * line) {
    if (lines.size() < 4096) {
        lines += line;
    }
}

std::string log_capture::text(const char * fallback) const {
    size_t end = lines.find_last_not_of(" \r\n");
    return end == std::string::npos ? fallback : lines.substr(0, end + 1);
}

bool log_capture::out_of_memory() const {
    return lines.find("failed to allocate") != std::string::npos || lines.find("out of memory") != std::string::npos ||
           lines.find("bad_alloc") != std::string::npos;
}

} // namespace lm

void lm_free(void * p) { free(p); }

int32_t lm_init(char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        static std::once_flag once;
        std::call_once(once, [] {
            lm::keep_little();
            llama_log_set(on_log, nullptr);
            ggml_set_abort_callback(on_abort);
            // ggml's own handler starts a debugger for a backtrace
            std::set_terminate(on_terminate);
            // common/ logs to stdout and stderr through a worker thread of its own: below every level it does neither
            common_log_set_verbosity_thold(-1);
            llama_backend_init();
        });
        return key != nullptr ? LM_OK : LM_ERR;
    });
}

#define LM_STRING_(a) #a
#define LM_STRING(a) LM_STRING_(a)

const char * lm_version_c_str(void) { return llama_version(); }
const char * lm_tree_c_str(void) { return LM_STRING(LM_NATIVE_TREE); }
const char * lm_system_info_c_str(void) { return llama_print_system_info(); }

int32_t lm_n_threads_default(void) {
    const int32_t n = lm::guard(nullptr, [] { return common_cpu_get_num_math(); });
    return n > 0 ? n : 4; // GGML_DEFAULT_N_THREADS
}

void lm_log_level(int32_t level) { g_level.store(level, std::memory_order_relaxed); }

static const char * device_type(enum ggml_backend_dev_type t) {
    switch (t) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:   return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU:   return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU:  return "igpu";
        case GGML_BACKEND_DEVICE_TYPE_ACCEL: return "accel";
        default:                             return "other";
    }
}

void lm::describe(ggml_backend_dev_t dev, lm_device * out) {
    ggml_backend_dev_props props = {};
    ggml_backend_dev_get_props(dev, &props);
    snprintf(out->name, sizeof out->name, "%s", props.name ? props.name : "");
    snprintf(out->description, sizeof out->description, "%s", props.description ? props.description : "");
    snprintf(out->type, sizeof out->type, "%s", device_type(props.type));
    snprintf(out->id, sizeof out->id, "%s", props.device_id ? props.device_id : "");
    out->memory_free  = props.memory_free;
    out->memory_total = props.memory_total;
}

int32_t lm_devices(lm_device * out, int32_t cap) {
    return lm::guard(nullptr, [&]() -> int32_t {
        const size_t n = ggml_backend_dev_count();
        for (size_t i = 0; i < n && i < (size_t) cap; i++) {
            lm::describe(ggml_backend_dev_get(i), &out[i]);
        }
        return (int32_t) n;
    });
}
