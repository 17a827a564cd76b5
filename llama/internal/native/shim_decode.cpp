// Why a thread of its own: ggml's worker threads spin between the nodes of a graph, one on each core, and whatever runs
// beside them stops them all at the next barrier. A goroutine that computes inside a cgo call is exactly that to Go's
// runtime: its monitor wakes many times per step to see whether to take the processor away. Here the goroutine is parked
// in the network poller instead, so that nothing in Go runs while a step does.
#include "shim_context.h"
#include "shim_sampler.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <pthread.h>
#include <unistd.h>

void lm::sample_row(lm_context * c, lm_row & r) {
    r.token = LLAMA_TOKEN_NULL;
    r.err   = nullptr;
    r.code  = lm::guard(&r.err, [&]() -> int32_t {
        r.token = lm::sample(r.sampler, c->ctx, r.index);
        return LM_OK;
    });
}

static void decode(lm_context * c) {
    char * err = nullptr;
    c->code    = lm::guard(&err, [&]() -> int32_t {
        llama_batch b = {};
        b.n_tokens    = c->token.size();
        b.token       = c->token.data();
        b.pos         = c->pos.data();
        b.n_seq_id    = c->n_seq.data();
        b.seq_id      = c->seq_ptr.data();
        b.logits      = c->logits.data();

        lm::log_capture log;
        const int32_t   ret = llama_decode(c->ctx, b);
        if (ret < 0) {
            return lm::fail(ret, log.text("llama_decode failed"), &err);
        }
        return ret;
    });
    free(c->error);
    c->error = err;
    if (c->code != LM_OK) {
        return;
    }
    for (lm_row & r : c->rows) {
        lm::sample_row(c, r);
        if (r.code == LM_OK) {
            r.code = lm_sampler_accept(r.sampler, &r.token, 1, true, &r.err);
        }
    }
}

static void run(lm_context * c) {
    std::unique_lock<std::mutex> lock(c->mu);
    for (;;) {
        c->wake.wait(lock, [c] { return c->posted || c->quit; });
        if (c->quit) {
            return;
        }
        c->posted = false;
        lock.unlock();
        decode(c);
        const char done = 1;
        while (write(c->done_fd, &done, 1) < 0 && errno == EINTR) { // never full: one step at a time
        }
        lock.lock();
    }
}

// Go's signals are for Go's threads; what a fault or a profiler sends to a thread stays its own.
void lm::start_decode_thread(lm_context * c) {
    sigset_t all, before;
    sigfillset(&all);
    for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF}) {
        sigdelset(&all, own);
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int32_t code = lm::guard(nullptr, [&]() -> int32_t {
        c->thread = std::thread(run, c);
        return LM_OK;
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (code != LM_OK) {
        throw std::runtime_error("no thread could be made for the context: raise the limit on threads (ulimit -u)");
    }
}

lm_context::~lm_context() {
    if (thread.joinable()) {
        {
            std::lock_guard<std::mutex> lock(mu);
            quit = true;
        }
        wake.notify_one();
        thread.join();
    }
    free(error);
    if (ctx != nullptr) {
        llama_free(ctx);
    }
}

int32_t lm_decode_start(lm_context * c, const int32_t * token, const int32_t * pos, const int32_t * seq, const int8_t * logits, int32_t n,
                        const lm_row * rows, int32_t n_rows) {
    return lm::guard(nullptr, [&]() -> int32_t {
        c->token.assign(token, token + n);
        c->pos.assign(pos, pos + n);
        c->seq.assign(seq, seq + n);
        c->logits.assign(logits, logits + n);
        c->n_seq.assign(n, 1);
        c->seq_ptr.resize(n);
        for (int32_t i = 0; i < n; i++) {
            c->seq_ptr[i] = &c->seq[i];
        }
        c->rows.assign(rows, rows + n_rows);
        {
            std::lock_guard<std::mutex> lock(c->mu);
            c->posted = true;
        }
        c->wake.notify_one();
        return LM_OK;
    });
}

int32_t lm_decode_finish(lm_context * c, lm_row * rows, int32_t n_rows) {
    std::copy_n(c->rows.begin(), n_rows, rows);
    return c->code;
}

const char * lm_decode_error_c_str(const lm_context * c) { return c->error != nullptr ? c->error : ""; }
