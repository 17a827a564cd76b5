// Shared by the C++ side of the border; Go never sees this file.
#pragma once

#include "shim.h"

#include "ggml-backend.h"
#include "llama.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace lm {

// Collects what llama.cpp logs at warning level and above on this thread: llama.h reports most failures only there. A quiet
// one keeps the thread's lines from the log.
class log_capture {
  public:
    explicit log_capture(bool quiet = false);
    ~log_capture();
    log_capture(const log_capture &) = delete;
    log_capture & operator=(const log_capture &) = delete;
    // The lines so far without the trailing line break; fallback where there are none.
    std::string text(const char * fallback) const;
    bool out_of_memory() const;
    void add(const char * line);
    const bool quiet;

  private:
    std::string   lines;
    log_capture * outer;
};

// Sees every line that llama.cpp logs on this thread while it exists.
class log_watch {
  public:
    log_watch();
    virtual ~log_watch();
    log_watch(const log_watch &) = delete;
    log_watch & operator=(const log_watch &) = delete;
    virtual void line(const char * text) = 0; // may throw where it is C++ that logs
};

struct grammar_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct grammar_budget : grammar_error {
    using grammar_error::grammar_error;
};

// What the parameters of this border are to llama.cpp.
llama_context_params context_params(const lm_context_params * p);
// Puts a plan's placement of tensors into mp, which refers to the plan afterwards.
void place(const lm_plan * plan, llama_model_params * mp);
void describe(ggml_backend_dev_t dev, lm_device * out);
// Bounds what the C library keeps of freed memory, for good.
void keep_little();
// Gives what it has kept back to the system.
void give_back();

inline char * copy(const char * data, size_t n) {
    char * p = static_cast<char *>(malloc(n + 1));
    if (p != nullptr) {
        memcpy(p, data, n);
        p[n] = 0;
    }
    return p;
}

inline int32_t fail(int32_t code, const std::string & text, char ** err) {
    if (err != nullptr) {
        *err = copy(text.data(), text.size());
    }
    return code;
}

// Hands a string to the caller, who frees it.
inline void give(const std::string & s, char ** out, size_t * n_out) {
    *out = copy(s.data(), s.size());
    if (*out == nullptr) {
        throw std::bad_alloc();
    }
    *n_out = s.size();
}

// Runs f and turns every exception into a code and a text.
template <typename F> int32_t guard(char ** err, F && f) {
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return fail(LM_ERR_MEMORY, "out of memory", err);
    } catch (const grammar_budget & e) {
        return fail(LM_ERR_BUDGET, e.what(), err);
    } catch (const grammar_error & e) {
        return fail(LM_ERR_GRAMMAR, e.what(), err);
    } catch (const std::exception & e) {
        const std::string text = e.what();
        return fail(LM_ERR, text.empty() || text == "std::exception" ? "llama.cpp gave no reason" : text, err);
    } catch (...) {
        return fail(LM_ERR, "unknown C++ exception", err);
    }
}

} // namespace lm
