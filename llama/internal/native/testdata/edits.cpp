// What the library's edits of ggml do (third_party/llama.cpp/edits): products of Q4_1 matrices are those of ggml's
// reference to the bit, and a cleared buffer is zero and takes no memory. With an
// argument it prints how many times faster than the reference the products of so many columns are.
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
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

    // With seconds, compute is of as many copies of the weights as no cache holds, and seconds is of one.
    std::vector<float> compute(bool reference, int threads, double * seconds = nullptr) const {
        const size_t   copies = seconds ? 1 + (128 << 20) / weights.size() : 1;
        ggml_context * ctx    = ggml_init({ copies * (weights.size() + columns * rows * sizeof(float) + 1024) + columns * length * sizeof(float) + (8 << 20), nullptr, false });
        ggml_tensor *  b      = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, length, columns);
        ggml_tensor *  c      = nullptr;
        ggml_cgraph *  graph  = ggml_new_graph_custom(ctx, copies * 2 + 8, false);
        memcpy(b->data, inputs.data(), inputs.size() * sizeof(float));
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
        std::vector<float> out((float *) c->data, (float *) c->data + rows * columns);
        ggml_backend_free(cpu);
        ggml_free(ctx);
        return out;
    }
};

void check(int64_t rows, int64_t length, int64_t columns, int threads) {
    const product p(rows, length, columns);
    const auto    want = p.compute(true, 1), got = p.compute(false, threads);
    if (memcmp(got.data(), want.data(), want.size() * sizeof(float)) != 0) {
        std::printf("%ld rows of %ld, %ld columns, %d threads: not what ggml's reference is\n", (long) rows, (long) length, (long) columns, threads);
        std::exit(1);
    }
}

long resident_kb() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmRSS:", 0) == 0) { return std::atol(line.c_str() + 6); }
    }
    return 0;
}

void check_clear() {
    for (const size_t n : { size_t(1), size_t(4096), size_t(1 << 20), size_t((64 << 20) + 123) }) {
        ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), n);
        auto *                data   = (unsigned char *) ggml_backend_buffer_get_base(buffer);
        ggml_backend_buffer_clear(buffer, 7);
        const long full = resident_kb();
        ggml_backend_buffer_clear(buffer, 0);
        if (n > (8 << 20) && full - resident_kb() < long(n >> 10) - 1024) {
            std::printf("of %zu bytes only %ld KiB were given back\n", n, full - resident_kb());
            std::exit(1);
        }
        for (size_t i = 0; i < ggml_backend_buffer_get_size(buffer); i++) {
            if (data[i] != 0) {
                std::printf("byte %zu of %zu is not zero\n", i, n);
                std::exit(1);
            }
        }
        ggml_backend_buffer_free(buffer);
    }
    std::vector<unsigned char> own(8 << 20, 7); // memory that is not ggml's to give back
    ggml_backend_buffer_t      buffer = ggml_backend_cpu_buffer_from_ptr(own.data(), own.size());
    ggml_backend_buffer_clear(buffer, 0);
    ggml_backend_buffer_free(buffer);
    if (own.front() != 0 || own[own.size() / 2] != 0 || own.back() != 0) {
        std::puts("a caller's memory is not zero");
        std::exit(1);
    }
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc > 1) {
        const int64_t shapes[][2] = { { 576, 576 }, { 192, 576 }, { 1536, 576 }, { 576, 1536 }, { 4096, 4096 } };
        for (const auto & s : shapes) {
            const product p(s[0], s[1], std::atoi(argv[1]));
            double        best[2] = { 1e9, 1e9 };
            for (int i = 0; i < 5; i++) {
                for (int reference = 0; reference < 2; reference++) {
                    double seconds;
                    p.compute(reference, 2, &seconds);
                    best[reference] = std::min(best[reference], seconds);
                }
            }
            std::printf("%ldx%ld %g\n", (long) s[0], (long) s[1], best[1] / best[0]);
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
    check_clear();
    std::puts("done");
}
