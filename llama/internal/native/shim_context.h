// A context with the thread that decodes.
#pragma once

#include "shim_internal.h"

#include "llama.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

struct lm_context {
    llama_context *   ctx  = nullptr;
    ggml_threadpool * pool = nullptr, *pool_batch = nullptr; // null: the same
    int32_t           n_threads = 1, n_threads_batch = 1;
    std::atomic<bool> abort{false};
    std::atomic<bool> hold{false};

    std::atomic<int64_t> decode_ns{0}, sample_ns{0};

    // One decode: written by lm_decode_start, then the thread's, then lm_decode_finish's.
    std::vector<int32_t>        token, pos, n_seq, seq;
    std::vector<llama_seq_id *> seq_ptr; // llama_batch wants a pointer per token
    std::vector<int8_t>         logits;
    std::vector<lm_row>         rows;
    std::vector<float *>        row_logits; // by batch index
    std::vector<int32_t>        sampled; // n_steps + n_draft for each row
    std::vector<lm_prob>        probs;   // n_steps times n_probs for each row
    int32_t                     n_steps = 0;
    int32_t                     code  = LM_OK;
    char *                      error = nullptr;

    int                     done_fd = -1;
    std::thread             thread;
    std::mutex              mu;
    std::condition_variable wake;
    bool                    posted = false; // a decode waits for the thread
    bool                    quit   = false;

    ~lm_context();
};

namespace lm {

void start_decode_thread(lm_context * c);
// Gives the context threads as the parameters say; a reason in *err where the process may not have such.
int32_t attach_threads(lm_context * c, const lm_context_params * p, char ** err);
// After llama_free.
void free_threads(lm_context * c);
// Ends the calling thread's team; its next decode starts one again. As long as teams have more threads than there are
// processors, whoever they belong to and however idle they are, OpenMP lets none of them spin: a decode takes twice as long.
void rest_team();
constexpr std::chrono::milliseconds team_rests_after{100};
// Calls f for each i below n on the threads that compute. f does not throw.
void on_team(lm_context * c, size_t n, void (*f)(lm_context *, size_t));

} // namespace lm
