// What Go does with the shim, from C++, so that a sanitizer sees all of it: contexts of one model decode at the same time and
// sample many rows each, while other threads hold them, abort them and read their times. TestShimThreads builds and runs it.
#include "../shim.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unistd.h>
#include <vector>

extern "C" void lmGoLog(int32_t, char *) {}
extern "C" bool lmGoProgress(uintptr_t, float) { return true; }

static void must(bool ok, const char * what) {
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static void use_context(llama_model * model, uint32_t seed) {
    const int32_t rows = 8, rounds = 20;
    int           fd[2];
    must(pipe(fd) == 0, "pipe");
    lm_context_params p = {};
    p.n_ctx             = 2048;
    p.n_batch = p.n_ubatch = 64;
    p.n_seq_max = p.n_outputs_max = rows;
    p.n_threads = p.n_threads_batch = 4;
    p.type_k = p.type_v = 1; // F16
    p.kv_unified        = seed % 2 == 0;
    p.offload_kqv = p.op_offload = true;
    p.done_fd                    = fd[1];

    char *          err = nullptr;
    lm_context *    c   = nullptr;
    lm_context_info info;
    must(lm_context_new(model, &p, &c, &info, &err) == LM_OK, "context");
    std::vector<lm_row> r(rows);
    for (int32_t i = 0; i < rows; i++) {
        lm_sampler_params sp = {};
        sp.seed              = seed + i;
        sp.temp              = i == 0 ? 0.0f : 1.0f; // one takes the likeliest
        sp.top_k             = 40;
        sp.top_p = sp.typ_p = sp.min_p = 1.0f;
        sp.min_p                       = 0.0f;
        sp.penalty_repeat              = 1.0f;
        sp.top_n_sigma                 = -1.0f;
        const char grammar[]           = "root ::= [^\\x00]*";
        if (i == 1) { // one needs the context
            sp.grammar   = grammar;
            sp.n_grammar = sizeof grammar - 1;
        }
        must(lm_sampler_new(model, &sp, &r[i].sampler, &err) == LM_OK, "sampler");
        r[i].index = i;
    }
    std::atomic<bool> done{false}, quiet{false};
    std::thread       other([&] {
        for (int n = 0; !done; n++) {
            int64_t d, s;
            lm_context_times(c, &d, &s);
            lm_context_hold(c, n % 8 == 1);
            lm_context_abort(c, n % 16 == 5 && !quiet);
            std::this_thread::yield();
        }
    });
    std::vector<int32_t> token(rows, 270), pos(rows, 0), seq(rows);
    std::vector<int8_t>  logits(rows, 1);
    for (int32_t i = 0; i < rows; i++) {
        seq[i] = i;
    }
    int sampled = 0;
    for (int round = 0; round < rounds; round++) {
        if ((quiet = round % 2 == 1)) { // else a busy machine might abort all of them
            lm_context_abort(c, false);
        }
        must(lm_decode_start(c, token.data(), pos.data(), seq.data(), logits.data(), rows, r.data(), rows, 4) == LM_OK, "start");
        char byte;
        must(read(fd[0], &byte, 1) == 1, "read");
        const int32_t code = lm_decode_finish(c, r.data(), rows);
        for (int32_t i = 0; i < rows; i++) {
            if (code == LM_OK) {
                sampled += r[i].n_tokens;
            }
            free(r[i].err);
            r[i].err      = nullptr;
            r[i].n_tokens = 0;
            r[i].code     = LM_OK;
            int32_t lo, hi;
            lm_memory_pos(c, i, &lo, &hi);
            pos[i] = hi + 1;
        }
    }
    must(sampled > 0, "nothing was sampled");
    done = true;
    other.join();
    for (lm_row & row : r) {
        lm_sampler_free(row.sampler);
    }
    lm_context_free(c);
    close(fd[0]);
    close(fd[1]);
}

int main(int argc, char ** argv) {
    must(argc == 2, "usage: threads MODEL");
    char * err = nullptr;
    must(lm_init(&err) == LM_OK, "init");
    lm_model_params mp    = {};
    llama_model *   model = nullptr;
    must(lm_model_load(argv[1], &mp, &model, &err) == LM_OK, "model");
    std::vector<std::thread> users;
    for (uint32_t i = 0; i < 3; i++) {
        users.emplace_back(use_context, model, i);
    }
    for (std::thread & t : users) {
        t.join();
    }
    lm_model_free(model);
    puts("done");
}
