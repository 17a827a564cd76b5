// Why a thread of its own: ggml's worker threads spin between the nodes of a graph, one on each core, and whatever runs
// beside them stops them all at the next barrier. A goroutine that computes inside a cgo call is exactly that to Go's
// runtime: its monitor wakes many times per step to see whether to take the processor away. Here the goroutine is parked
// in the network poller instead, so that nothing in Go runs while a step does.
#include "shim_context.h"
#include "shim_sampler.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <pthread.h>
#include <unistd.h>

namespace {

// Adds the time of its life to a counter.
class stopwatch {
  public:
    explicit stopwatch(std::atomic<int64_t> & ns) : ns(ns), begin(now()) {}
    ~stopwatch() { ns.fetch_add(now() - begin, std::memory_order_relaxed); }

  private:
    static int64_t now() {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    std::atomic<int64_t> & ns;
    int64_t                begin;
};

} // namespace

static int32_t decode_batch(lm_context * c, char ** err) {
    stopwatch watch(c->decode_ns);
    return lm::guard(err, [&]() -> int32_t {
        llama_batch b = {};
        b.n_tokens    = c->token.size();
        b.token       = c->token.data();
        b.pos         = c->pos.data();
        b.n_seq_id    = c->n_seq.data();
        b.seq_id      = c->seq_ptr.data();
        b.logits      = c->logits.data();

        lm::log_capture log;
        const bool      encode = c->n_steps == 0;
        const int32_t   ret    = encode ? llama_encode(c->ctx, b) : llama_decode(c->ctx, b);
        if (ret < 0) {
            return lm::fail(ret, log.text(encode ? "llama_encode failed" : "llama_decode failed"), err);
        }
        return ret;
    });
}

static int32_t sample_row(lm_context * c, lm_sampler * s, int32_t index, const float * logits, int32_t * token, int32_t n_probs, lm_prob * probs,
                          char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        *token = lm::sample(s, c->ctx, index, logits);
        if (n_probs > 0) {
            const llama_vocab * vocab = llama_model_get_vocab(llama_get_model(c->ctx));
            lm::logprobs(logits, llama_vocab_n_tokens(vocab), *token, n_probs, probs);
        }
        return lm_sampler_accept(s, token, 1, true, err);
    });
}

int32_t lm_sample_row(lm_context * c, lm_sampler * s, int32_t index, int32_t * token, int32_t n_probs, lm_prob * probs, char ** err) {
    return sample_row(c, s, index, llama_get_logits_ith(c->ctx, index), token, n_probs, probs, err);
}

// Samples one token for a row, and one behind each guess that was sampled.
static void sample_row(lm_context * c, lm_row & r) {
    const llama_vocab * vocab = llama_model_get_vocab(llama_get_model(c->ctx));
    for (int32_t at = r.index;; at++) {
        int32_t   token = LLAMA_TOKEN_NULL;
        lm_prob * probs = r.n_probs > 0 ? const_cast<lm_prob *>(r.probs) + r.n_tokens * r.n_probs : nullptr;
        r.code          = sample_row(c, r.sampler, at, c->row_logits[at], &token, r.n_probs, probs, &r.err);
        if (r.code != LM_OK) {
            return;
        }
        const_cast<int32_t *>(r.tokens)[r.n_tokens++] = token;
        if (at == r.index + r.n_draft || token != c->token[at + 1] || llama_vocab_is_eog(vocab, token)) {
            return;
        }
    }
}

// Takes the guesses that were not sampled out of memory.
static void forget_guesses(lm_context * c, lm_row & r) {
    // a sampler that failed did so behind a guess that it had sampled
    const int32_t kept = r.n_tokens + (r.code != LM_OK ? 1 : 0);
    if (kept > r.n_draft) {
        return;
    }
    const bool done = lm::guard(nullptr, [&]() -> int32_t {
        return llama_memory_seq_rm(llama_get_memory(c->ctx), c->seq[r.index], c->pos[r.index] + kept, -1) ? LM_OK : LM_ERR;
    }) == LM_OK;
    if (!done && r.code == LM_OK) {
        r.code = lm::fail(LM_ERR, "this model's memory cannot forget guessed tokens", &r.err);
    }
}

// Samples the rows; whether all of them got tokens that do not end the generation.
//
// The pointers to the logits are had on this thread, because llama.cpp puts its outputs in order when it is asked for them;
// after that the rows have nothing in common. ggml's own team of threads samples them: it still spins from the decode, so that
// it begins at once, and threads beside it would have to share its cores.
static bool sample_rows(lm_context * c) {
    stopwatch    watch(c->sample_ns);
    const size_t n = c->rows.size();
    c->row_logits.resize(c->token.size());
    size_t worth = 0;
    for (const lm_row & r : c->rows) {
        for (int32_t at = r.index; at <= r.index + r.n_draft; at++) {
            c->row_logits[at] = llama_get_logits_ith(c->ctx, at);
        }
        worth += lm::worth_a_thread(r.sampler);
    }
    if (worth > 1) {
        lm::on_team(c, n, [](lm_context * c, size_t i) {
            if (lm::needs_no_context(c->rows[i].sampler)) {
                sample_row(c, c->rows[i]);
            }
        });
    }
    for (lm_row & r : c->rows) {
        if (worth <= 1 || !lm::needs_no_context(r.sampler)) {
            sample_row(c, r);
        }
        forget_guesses(c, r);
    }
    const llama_vocab * vocab = llama_model_get_vocab(llama_get_model(c->ctx));
    return std::all_of(c->rows.begin(), c->rows.end(), [&](const lm_row & r) {
        return r.code == LM_OK && !llama_vocab_is_eog(vocab, r.tokens[r.n_tokens - 1]);
    });
}

static void decode(lm_context * c) {
    char * err = nullptr;
    c->code    = decode_batch(c, &err);
    free(c->error);
    c->error = err;
    for (int32_t step = 1; c->code == LM_OK && sample_rows(c) && step < c->n_steps && !c->hold.load(std::memory_order_relaxed); step++) {
        for (size_t i = 0; i < c->rows.size(); i++) {
            const int32_t at = c->rows[i].index;
            c->token[at]     = c->rows[i].tokens[step - 1];
            c->pos[at]++;
        }
        // llama.cpp takes back what a failed decode has put into memory; the next one will say why it failed
        if (decode_batch(c, nullptr) != LM_OK) {
            break;
        }
    }
}

static void run(lm_context * c) {
    std::unique_lock<std::mutex> lock(c->mu);
    const auto                   called = [c] { return c->posted || c->quit; };
    for (;;) {
        if (!c->wake.wait_for(lock, lm::team_rests_after, called)) {
            lock.unlock();
            lm::rest_team();
            lock.lock();
            c->wake.wait(lock, called);
        }
        if (c->quit) {
            return;
        }
        c->posted = false;
        lock.unlock();
        decode(c);
        const char done = 1;
        while (write(c->done_fd, &done, 1) < 0 && errno == EINTR) { // never full: one decode at a time
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
    lm::free_threads(this);
}

int32_t lm_decode_start(lm_context * c, const int32_t * token, const int32_t * pos, const int32_t * seq, const int8_t * logits, int32_t n,
                        const lm_row * rows, int32_t n_rows, int32_t n_steps) {
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
        c->n_steps = n_rows == n ? n_steps : std::min(n_steps, 1);
        size_t n_sampled = 0, n_probs = 0;
        for (const lm_row & r : c->rows) {
            n_sampled += c->n_steps + r.n_draft;
            n_probs += (c->n_steps + r.n_draft) * r.n_probs;
        }
        c->sampled.resize(n_sampled);
        c->probs.resize(n_probs);
        n_sampled = n_probs = 0;
        for (lm_row & r : c->rows) {
            r.tokens = c->sampled.data() + n_sampled;
            r.probs  = c->probs.data() + n_probs;
            n_sampled += c->n_steps + r.n_draft;
            n_probs += (c->n_steps + r.n_draft) * r.n_probs;
        }
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
