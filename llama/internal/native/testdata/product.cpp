// Products of Q4_1 matrices as the library computes them against ggml's reference, and of many columns
// against each alone. With an argument it prints, for that many columns, how long each takes.
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace {

struct product {
    int64_t rows, length, columns;
    std::vector<uint8_t> weights;
    std::vector<float>   inputs;

    product(int64_t rows, int64_t length, int64_t columns) : rows(rows), length(length), columns(columns) {
        std::mt19937                          random(rows * 31 + length * 7 + columns);
        std::normal_distribution<float>       normal(0.1f, 1.0f);
        std::vector<float>                    plain(rows * length);
        for (float & x : plain) { x = normal(random); }
        inputs.resize(columns * length);
        for (float & x : inputs) { x = normal(random); }
        inputs[0] = 200; // some block has a large value, and a scale to match
        weights.resize(rows * ggml_row_size(GGML_TYPE_Q4_1, length));
        ggml_quantize_chunk(GGML_TYPE_Q4_1, plain.data(), weights.data(), 0, rows, length, nullptr);
    }

    // compute is of n columns from the first on. With seconds, it is of as many copies of the weights as no cache holds, and
    // seconds is of one.
    std::vector<float> compute(bool reference, int threads, int64_t first, int64_t n, double * seconds = nullptr) const {
        const size_t   copies = seconds ? 1 + (128 << 20) / weights.size() : 1;
        ggml_context * ctx    = ggml_init({ copies * (weights.size() + n * rows * sizeof(float) + 1024) + n * length * sizeof(float) + (8 << 20), nullptr, false });
        ggml_tensor *  b      = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, length, n);
        ggml_tensor *  c      = nullptr;
        ggml_cgraph *  graph  = ggml_new_graph_custom(ctx, copies * 2 + 8, false);
        memcpy(b->data, inputs.data() + first * length, size_t(n * length) * sizeof(float));
        for (size_t i = 0; i < copies; i++) {
            ggml_tensor * a = ggml_new_tensor_2d(ctx, GGML_TYPE_Q4_1, length, rows);
            memcpy(a->data, weights.data(), weights.size());
            ggml_build_forward_expand(graph, c = ggml_mul_mat(ctx, a, b));
        }
        ggml_backend_t cpu = ggml_backend_cpu_init();
        ggml_backend_cpu_set_n_threads(cpu, threads);
        ggml_backend_cpu_set_use_ref(cpu, reference);
        const auto from = std::chrono::steady_clock::now();
        ggml_backend_graph_compute(cpu, graph);
        if (seconds) { *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count() / copies; }
        std::vector<float> out((float *) c->data, (float *) c->data + rows * n);
        ggml_backend_free(cpu);
        ggml_free(ctx);
        return out;
    }
};

void check(int64_t rows, int64_t length, int64_t columns, int threads) {
    const product p(rows, length, columns);
    const auto    want = p.compute(true, 1, 0, columns), got = p.compute(false, threads, 0, columns);
    double        error = 0, norm = 0;
    for (size_t i = 0; i < want.size(); i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (!(std::sqrt(error / norm) < 1e-5)) {
        std::printf("%ld rows of %ld, %ld columns, %d threads: %g off\n", (long) rows, (long) length, (long) columns, threads, std::sqrt(error / norm));
        std::exit(1);
    }
    for (int64_t c = 0; c < columns; c++) {
        const auto alone = p.compute(false, threads, c, 1);
        if (memcmp(alone.data(), got.data() + c * rows, rows * sizeof(float)) != 0) {
            std::printf("%ld rows of %ld: column %ld of %ld is not what it is alone\n", (long) rows, (long) length, (long) c, (long) columns);
            std::exit(1);
        }
    }
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc > 1) {
        const int64_t shapes[][2] = { { 576, 576 }, { 192, 576 }, { 1536, 576 }, { 576, 1536 }, { 4096, 4096 } };
        for (const auto & s : shapes) {
            const product p(s[0], s[1], std::atoi(argv[1]));
            double        best[2] = { 1e9, 1e9 };
            for (int i = 0; i < (p.columns < 64 ? 10 : 2); i++) {
                for (int reference = 0; reference < 2; reference++) {
                    double seconds;
                    p.compute(reference, 2, 0, p.columns, &seconds);
                    best[reference] = std::min(best[reference], seconds);
                }
            }
            std::printf("%5ld x %5ld: %9.2f us, reference %9.2f us: %.2f\n", (long) s[0], (long) s[1], best[0] * 1e6, best[1] * 1e6, best[1] / best[0]);
        }
        return 0;
    }
    for (int64_t rows : { 7, 8, 24, 72, 200 }) {
        for (int64_t length : { 32, 96, 1024, 1056, 3104 }) {
            for (int64_t columns : { 1, 2, 3, 4, 5, 11 }) {
                check(rows, length, columns, int(1 + (rows + length + columns) % 5));
            }
        }
    }
    std::puts("done");
}
