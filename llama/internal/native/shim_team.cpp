// The threads of a context that compute on the CPU: ggml's, which are OpenMP's where llama.cpp was built with that.
#include "shim_context.h"

#include "ggml-cpu.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#ifdef _OPENMP
#include <omp.h>
#endif

#include <cerrno>
#include <cstring>

// ggml writes to stderr and goes on where the system refuses what it sets, so it is tried before, on a thread of its own.
static int try_settings(const lm_context_params * p) {
    int code = 0;
#ifdef __linux__
    std::thread([&] {
        for (int i = 0; i < LM_CPUS && code == 0; i++) {
            if (p->cpumask[i]) {
                cpu_set_t set; // of one: a larger one is allowed where one of its processors is
                CPU_ZERO(&set);
                CPU_SET(i, &set);
                code = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
            }
        }
        if (code == 0 && p->priority > GGML_SCHED_PRIO_NORMAL) {
            sched_param sp    = {};
            sp.sched_priority = 40; // as ggml's GGML_SCHED_PRIO_MEDIUM
            code              = pthread_setschedparam(pthread_self(), SCHED_FIFO, &sp);
        }
    }).join();
#endif
    return code;
}

static ggml_threadpool * new_pool(const lm_context_params * p, int32_t n_threads) {
    ggml_threadpool_params tp = ggml_threadpool_params_default(n_threads);
    static_assert(sizeof tp.cpumask == sizeof p->cpumask, "GGML_MAX_N_THREADS changed: change LM_CPUS");
    memcpy(tp.cpumask, p->cpumask, sizeof tp.cpumask);
    tp.strict_cpu          = p->strict_cpu;
    tp.prio                = static_cast<ggml_sched_priority>(p->priority);
    ggml_threadpool * pool = ggml_threadpool_new(&tp);
    if (pool == nullptr) {
        throw std::bad_alloc();
    }
    return pool;
}

int32_t lm::attach_threads(lm_context * c, const lm_context_params * p, char ** err) {
    if (const int code = try_settings(p); code != 0) {
        return lm::fail(LM_ERR_UNSUPPORTED, std::string("the system refuses these processors or this priority: ") + strerror(code), err);
    }
    // A pool must have exactly the threads that ask for it. Without one ggml makes a new one for each graph.
    c->pool = new_pool(p, p->n_threads);
    if (p->n_threads_batch != p->n_threads) {
        c->pool_batch = new_pool(p, p->n_threads_batch);
    }
    llama_attach_threadpool(c->ctx, c->pool, c->pool_batch);
    c->n_threads       = p->n_threads;
    c->n_threads_batch = p->n_threads_batch;
    return LM_OK;
}

void lm::free_threads(lm_context * c) {
    for (ggml_threadpool * pool : {c->pool, c->pool_batch}) {
        if (pool != nullptr) {
            ggml_threadpool_free(pool);
        }
    }
}

void lm::rest_team() {
#ifdef _OPENMP
    omp_pause_resource(omp_pause_soft, omp_get_initial_device());
#endif
}

void lm::on_team(lm_context * c, size_t n, void (*f)(lm_context *, size_t)) {
#ifdef _OPENMP
    // of the size of the last decode's team: another one would end threads and start new ones
    const int n_threads = c->token.size() > 1 ? c->n_threads_batch : c->n_threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads)
    for (size_t i = 0; i < n; i++) {
        f(c, i);
    }
#else
    std::atomic<size_t> next{0};
    const auto          work = [&] {
        for (size_t i; (i = next.fetch_add(1)) < n;) {
            f(c, i);
        }
    };
    std::vector<std::thread> others;
    for (int32_t i = 1; i < c->n_threads && (size_t) i < n; i++) {
        others.emplace_back(work);
    }
    work();
    for (std::thread & t : others) {
        t.join();
    }
#endif
}
