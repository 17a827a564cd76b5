// Product of a Q4_1 matrix with one or many columns, for AVX2. ggml takes the dot product of each row
// with each column, which unpacks a row anew for every column; here eight rows are unpacked and
// interleaved at a time, so that an integer of four bytes in lane r is of row r, and a product of four
// bytes of a column with all eight rows is one instruction. Each result is summed in the same order
// whatever the number of columns: a token's logits do not depend on its neighbours.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define LM_INLINE static inline __attribute__((always_inline))

enum {
    LM_ROWS   = 8,  // lanes of a vector
    LM_GROUPS = 4,  // of eight rows, at most, that share the columns' converted scales
    LM_PANEL  = 32, // blocks of a row, unpacked at a time: 10 KiB a group
    LM_TILE   = 4,  // columns at a time
};

// lm_rows8 is a block of eight rows: four values of each row in each vector, and its scales and minima.
struct lm_rows8 {
    __m256i q[8];
    __m256  d, m;
};

// lm_unpack interleaves a block of eight rows that are stride bytes apart, and asks for as many bytes of what comes next: eight
// rows at once are more than a processor foresees.
LM_INLINE void lm_unpack(struct lm_rows8 * to, const char * rows, size_t stride, const char * next) {
    const __m256i low   = _mm256_set1_epi8(0x0F);
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
                                           0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    for (size_t i = 0; i < LM_ROWS*sizeof(block_q4_1); i += 64) {
        _mm_prefetch(next + i, _MM_HINT_T0);
    }
    const block_q4_1 * x[LM_ROWS];
    int                dm[LM_ROWS];
    for (int r = 0; r < LM_ROWS; r++) {
        x[r] = (const block_q4_1 *) (rows + r*stride);
        memcpy(&dm[r], x[r], sizeof(int)); // d and m
    }
    __m256i pair[4]; // rows r and r + 4
    for (int r = 0; r < 4; r++) {
        pair[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *) x[r]->qs)),
                                          _mm_loadu_si128((const __m128i *) x[r + 4]->qs), 1);
    }
    const __m256i a = _mm256_unpacklo_epi32(pair[0], pair[1]);
    const __m256i c = _mm256_unpacklo_epi32(pair[2], pair[3]);
    const __m256i e = _mm256_unpackhi_epi32(pair[0], pair[1]);
    const __m256i g = _mm256_unpackhi_epi32(pair[2], pair[3]);
    const __m256i v[4] = {
        _mm256_unpacklo_epi64(a, c), _mm256_unpackhi_epi64(a, c),
        _mm256_unpacklo_epi64(e, g), _mm256_unpackhi_epi64(e, g),
    };
    for (int i = 0; i < 4; i++) {
        to->q[i]     = _mm256_and_si256(v[i], low);
        to->q[4 + i] = _mm256_and_si256(_mm256_srli_epi16(v[i], 4), low);
    }
    const __m256i both = _mm256_setr_epi32(dm[0], dm[1], dm[2], dm[3], dm[4], dm[5], dm[6], dm[7]);
    const __m256i half = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(both, split), _MM_SHUFFLE(3, 1, 2, 0));
    to->d = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    to->m = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
}

// lm_block adds the products of a block of eight rows with blocks of n columns.
LM_INLINE void lm_block(__m256 * acc, const struct lm_rows8 * x, const block_q8_1 * const * cols, int64_t b, const float * d, const float * s, const int n) {
    __m256i sum[LM_TILE]; // of 16 products each, 15 times 127 at most: less than 2^15
    for (int i = 0; i < 8; i++) {
        for (int t = 0; t < n; t++) {
            int four;
            memcpy(&four, cols[t][b].qs + 4*i, sizeof(four));
            const __m256i two = _mm256_maddubs_epi16(x->q[i], _mm256_set1_epi32(four));
            sum[t] = i == 0 ? two : _mm256_add_epi16(sum[t], two);
            __asm__("" : "+x"(sum[t])); // added now: gcc would keep all 32 products, on the stack, and add them as a tree
        }
    }
    for (int t = 0; t < n; t++) {
        const __m256 dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[t], _mm256_set1_epi16(1)));
        acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(x->d, _mm256_set1_ps(d[t])), dot, acc[t]);
        acc[t] = _mm256_fmadd_ps(x->m, _mm256_set1_ps(s[t]), acc[t]);
    }
}

// lm_tile adds the products of a panel with n columns to C, or stores them if first.
LM_INLINE void lm_tile(const struct lm_rows8 * panel, const float (* d)[LM_TILE], const float (* s)[LM_TILE],
        const block_q8_1 * const * cols, int nb, float * const * C, bool first, const int n) {
    __m256 acc[LM_TILE];
    for (int t = 0; t < n; t++) {
        acc[t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(C[t]);
    }
    for (int b = 0; b < nb; b++) {
        lm_block(acc, &panel[b], cols, b, d[b], s[b], n);
    }
    for (int t = 0; t < n; t++) {
        _mm256_storeu_ps(C[t], acc[t]);
    }
}

// lm_few computes eight rows of n columns, which is all: unpacked blocks are used at once and not kept.
LM_INLINE void lm_few(const char * rows, size_t stride, int64_t nb, const block_q8_1 * const * cols, float * const * C, const int n) {
    __m256 acc[LM_TILE];
    for (int t = 0; t < n; t++) {
        acc[t] = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < nb; b++) {
        float d[LM_TILE], s[LM_TILE];
        for (int t = 0; t < n; t++) {
            d[t] = GGML_CPU_FP16_TO_FP32(cols[t][b].d);
            s[t] = GGML_CPU_FP16_TO_FP32(cols[t][b].s);
        }
        struct lm_rows8 x;
        lm_unpack(&x, rows + b*sizeof(block_q4_1), stride, rows + LM_ROWS*(stride + b*sizeof(block_q4_1)));
        lm_block(acc, &x, cols, b, d, s, n);
    }
    for (int t = 0; t < n; t++) {
        _mm256_storeu_ps(C[t], acc[t]);
    }
}

// LM_TILES calls a function with the number of columns as a constant, which unrolls its loops.
#define LM_TILES(n, function, ...) \
    switch (n) { \
        case 1: function(__VA_ARGS__, 1); break; \
        case 2: function(__VA_ARGS__, 2); break; \
        case 3: function(__VA_ARGS__, 3); break; \
        case 4: function(__VA_ARGS__, 4); break; \
    }

// lm_many computes groups times eight rows of n columns. The rows that come next are ahead bytes on.
static void lm_many(const char * rows, size_t stride, int groups, size_t ahead, int64_t nb, const block_q8_1 * B, float * C, size_t ldc, int64_t n) {
    struct lm_rows8 panels[LM_GROUPS][LM_PANEL];
    float           d[LM_PANEL][LM_TILE], s[LM_PANEL][LM_TILE];
    for (int64_t from = 0; from < nb; from += LM_PANEL) {
        const int blocks = (int) MIN(LM_PANEL, nb - from);
        for (int g = 0; g < groups; g++) {
            const char * group = rows + g*LM_ROWS*stride;
            for (int b = 0; b < blocks; b++) {
                const size_t at = (from + b)*sizeof(block_q4_1);
                lm_unpack(&panels[g][b], group + at, stride, group + ahead + LM_ROWS*at);
            }
        }
        for (int64_t col = 0; col < n; col += LM_TILE) {
            const int          tile = (int) MIN(LM_TILE, n - col);
            const block_q8_1 * cols[LM_TILE];
            for (int t = 0; t < tile; t++) {
                cols[t] = B + (col + t)*nb + from;
                for (int b = 0; b < blocks; b++) {
                    d[b][t] = GGML_CPU_FP16_TO_FP32(cols[t][b].d);
                    s[b][t] = GGML_CPU_FP16_TO_FP32(cols[t][b].s);
                }
            }
            for (int g = 0; g < groups; g++) {
                float * to[LM_TILE];
                for (int t = 0; t < tile; t++) {
                    to[t] = C + (col + t)*ldc + g*LM_ROWS;
                }
                LM_TILES(tile, lm_tile, panels[g], d, s, cols, blocks, to, from == 0)
            }
        }
    }
}

// lm_mul_mat_q4_1 computes dst, unless this is not its kind of product. Each thread of the team calls it
// after the columns have been quantized into wdata and the threads have met.
static bool lm_mul_mat_q4_1(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    const struct ggml_tensor * src0 = dst->src[0];
    const struct ggml_tensor * src1 = dst->src[1];
    if (params->use_ref || src0->type != GGML_TYPE_Q4_1 || src1->type != GGML_TYPE_F32 ||
        src0->ne[1] % LM_ROWS != 0 || dst->ne[2] != 1 || dst->ne[3] != 1) {
        return false;
    }
    const block_q8_1 * B      = params->wdata;
    const size_t       stride = src0->nb[1];
    const size_t       ldc    = dst->nb[1]/sizeof(float);
    const int64_t      nb     = src0->ne[0]/QK4_1;
    const int64_t      n      = dst->ne[1];
    const int64_t      all    = src0->ne[1]/LM_ROWS;
    const int64_t      each   = MAX(1, all/(4*params->nth)); // four turns a thread, for a thread that is held up
    const int64_t      groups = n <= LM_TILE ? each : MIN(each, LM_GROUPS);
    for (int64_t turn = params->ith; turn*groups < all;
         turn = atomic_fetch_add_explicit(&params->threadpool->current_chunk, 1, memory_order_relaxed)) {
        const int64_t first = turn*groups, last = MIN(first + groups, all);
        const char *  rows  = (const char *) src0->data + first*LM_ROWS*stride;
        float *       C     = (float *) dst->data + first*LM_ROWS;
        if (n > LM_TILE) {
            lm_many(rows, stride, (int) (last - first), params->nth*groups*LM_ROWS*stride, nb, B, C, ldc, n);
            continue;
        }
        for (int64_t g = first; g < last; g++, rows += LM_ROWS*stride, C += LM_ROWS) {
            const block_q8_1 * const cols[LM_TILE] = { B, B + nb, B + 2*nb, B + 3*nb };
            float * const            to[LM_TILE]   = { C, C + ldc, C + 2*ldc, C + 3*ldc };
            LM_TILES(n, lm_few, rows, stride, nb, cols, to)
        }
    }
    return true;
}

#else

static bool lm_mul_mat_q4_1(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    (void) params;
    (void) dst;
    return false;
}

#endif

