// Product of a Q4_1 matrix with one or many columns, for AVX2. ggml takes the dot product of each row
// with each column, which unpacks a row anew for every column. Here eight rows are unpacked and
// interleaved at a time, so that an integer of four bytes in lane r is of row r, and a product of four
// bytes of a column with all eight rows is one instruction. Every sum is made of the same terms in the
// same order as ggml's (ggml_vec_dot_q4_1_q8_1 for AVX2): results are the same to the bit.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define LM_INLINE static inline __attribute__((always_inline))

enum {
    LM_ROWS    = 8,  // lanes of a vector
    LM_PANEL   = 64, // blocks of eight rows that are kept unpacked: 20 KiB
    LM_COLUMNS = 32, // that use them in turn
};

// lm_rows8 is a block of eight rows: four values of each row in each vector, and its scales and minima.
struct lm_rows8 {
    __m256i q[8];
    __m256  d, m;
};

// lm_sums are of eight rows and one column: one for each vector of a block, as ggml's lanes, and one of the minima.
struct lm_sums {
    __m256 dot[8], min;
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

// lm_block adds the products of a block of eight rows with a block of a column.
LM_INLINE void lm_block(struct lm_sums * sums, const struct lm_rows8 * x, const block_q8_1 * y) {
    int ds;
    memcpy(&ds, y, sizeof(ds)); // d and s
    const __m128 scales = _mm_cvtph_ps(_mm_cvtsi32_si128(ds));
    const __m256 d      = _mm256_mul_ps(x->d, _mm256_broadcastss_ps(scales));
    for (int i = 0; i < 8; i++) {
        int four;
        memcpy(&four, y->qs + 4*i, sizeof(four));
        const __m256i two = _mm256_maddubs_epi16(x->q[i], _mm256_set1_epi32(four));
        const __m256i one = _mm256_madd_epi16(two, _mm256_set1_epi16(1));
        sums->dot[i]      = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(one), sums->dot[i]);
    }
    sums->min = _mm256_fmadd_ps(x->m, _mm256_broadcastss_ps(_mm_movehdup_ps(scales)), sums->min);
}

// lm_total adds up as ggml's hsum_float_8 does.
LM_INLINE __m256 lm_total(const struct lm_sums * s) {
    __m256 t[4];
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_add_ps(s->dot[4 + i], s->dot[i]);
    }
    return _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(t[0], t[2]), _mm256_add_ps(t[1], t[3])), s->min);
}

LM_INLINE struct lm_sums lm_zero(void) {
    struct lm_sums s;
    for (int i = 0; i < 8; i++) {
        s.dot[i] = _mm256_setzero_ps();
    }
    s.min = _mm256_setzero_ps();
    return s;
}

// lm_column computes eight rows of one column, each block of which is unpacked for it alone.
static void lm_column(const char * rows, size_t stride, int64_t nb, const block_q8_1 * y, float * C) {
    struct lm_sums sums = lm_zero();
    for (int64_t b = 0; b < nb; b++) {
        struct lm_rows8 x;
        lm_unpack(&x, rows + b*sizeof(block_q4_1), stride, rows + LM_ROWS*(stride + b*sizeof(block_q4_1)));
        lm_block(&sums, &x, &y[b]);
    }
    _mm256_storeu_ps(C, lm_total(&sums));
}

// lm_columns computes eight rows of n columns.
static void lm_columns(const char * rows, size_t stride, int64_t nb, const block_q8_1 * y, float * C, size_t ldc, int64_t n) {
    struct lm_rows8 panel[LM_PANEL];
    struct lm_sums  sums[LM_COLUMNS];
    for (int64_t first = 0; first < n; first += LM_COLUMNS) {
        const int columns = (int) MIN(LM_COLUMNS, n - first);
        for (int c = 0; c < columns; c++) {
            sums[c] = lm_zero();
        }
        for (int64_t from = 0; from < nb; from += LM_PANEL) {
            const int blocks = (int) MIN(LM_PANEL, nb - from);
            for (int b = 0; b < blocks; b++) {
                const size_t at = (from + b)*sizeof(block_q4_1);
                lm_unpack(&panel[b], rows + at, stride, rows + LM_ROWS*(stride + at));
            }
            for (int c = 0; c < columns; c++) {
                struct lm_sums s = sums[c];
                for (int b = 0; b < blocks; b++) {
                    lm_block(&s, &panel[b], &y[(first + c)*nb + from + b]);
                }
                sums[c] = s;
            }
        }
        for (int c = 0; c < columns; c++) {
            _mm256_storeu_ps(C + (first + c)*ldc, lm_total(&sums[c]));
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
    const block_q8_1 * y      = params->wdata;
    const size_t       stride = src0->nb[1];
    const size_t       ldc    = dst->nb[1]/sizeof(float);
    const int64_t      nb     = src0->ne[0]/QK4_1;
    const int64_t      n      = dst->ne[1];
    const int64_t      all    = src0->ne[1]/LM_ROWS;
    const int64_t      groups = MAX(1, all/(4*params->nth)); // four turns a thread, for a thread that is held up
    for (int64_t turn = params->ith; turn*groups < all;
         turn = atomic_fetch_add_explicit(&params->threadpool->current_chunk, 1, memory_order_relaxed)) {
        for (int64_t g = turn*groups; g < MIN((turn + 1)*groups, all); g++) {
            const char * rows = (const char *) src0->data + g*LM_ROWS*stride;
            float *      C    = (float *) dst->data + g*LM_ROWS;
            if (n == 1) {
                lm_column(rows, stride, nb, y, C);
            } else {
                lm_columns(rows, stride, nb, y, C, ldc, n);
            }
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

