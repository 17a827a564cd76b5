// Product of a Q4_1 matrix with one or many columns, for AVX2. ggml takes the dot product of each row
// with each column, which unpacks a row anew for every column; here eight rows are unpacked and
// interleaved once for a panel of their length, so that an integer of four bytes in lane r is of row r,
// and a product of four bytes of a column with all eight rows is one instruction. Each result is summed
// in the same order whatever the number of columns: a token's logits do not depend on its neighbours.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

enum {
    LM_ROWS   = 8,  // lanes of a vector
    LM_GROUPS = 4,  // of eight rows, at most, that share the columns' converted scales
    LM_PANEL  = 32, // blocks of a row, unpacked at a time: 10 KiB a group
    LM_TILE   = 4,  // columns at a time
};

struct lm_panel {
    __m256i q[LM_PANEL][8]; // four values of each of eight rows in each of eight vectors
    __m256  d[LM_PANEL], m[LM_PANEL];
};

struct lm_scales {
    float d[LM_PANEL], s[LM_PANEL];
};

// lm_unpack interleaves block b of eight rows that are stride bytes apart.
static inline __attribute__((always_inline)) void lm_unpack(const char * rows, size_t stride, int64_t b, __m256i * q, __m256 * d, __m256 * m) {
    const __m256i low   = _mm256_set1_epi8(0x0F);
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
                                           0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    const block_q4_1 * x[LM_ROWS];
    int                dm[LM_ROWS];
    for (int r = 0; r < LM_ROWS; r++) {
        x[r] = (const block_q4_1 *) (rows + r*stride) + b;
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
        q[i]     = _mm256_and_si256(v[i], low);
        q[4 + i] = _mm256_and_si256(_mm256_srli_epi16(v[i], 4), low);
    }
    const __m256i both = _mm256_setr_epi32(dm[0], dm[1], dm[2], dm[3], dm[4], dm[5], dm[6], dm[7]);
    const __m256i half = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(both, split), _MM_SHUFFLE(3, 1, 2, 0));
    *d = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    *m = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
}

// lm_four multiplies four values of each of eight rows with four of a column and adds them by pairs.
static inline __attribute__((always_inline)) __m256i lm_four(__m256i q, const block_q8_1 * x, int i) {
    int four;
    memcpy(&four, x->qs + 4*i, sizeof(four));
    return _mm256_maddubs_epi16(q, _mm256_set1_epi32(four));
}

// lm_add adds the sums of a block to the sums of the rows.
static inline __attribute__((always_inline)) __m256 lm_add(__m256 acc, __m256i sum, __m256 d, __m256 m, float dx, float sx) {
    const __m256 dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
    acc = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(dx)), dot, acc);
    return _mm256_fmadd_ps(m, _mm256_set1_ps(sx), acc);
}

// lm_tile adds the products of a panel with n columns to C, or stores them if first.
static inline __attribute__((always_inline)) void lm_tile(const struct lm_panel * p, const struct lm_scales * scales,
        const block_q8_1 * const * cols, int nb, float * const * C, bool first, const int n) {
    __m256 acc[LM_TILE];
    for (int t = 0; t < n; t++) {
        acc[t] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(C[t]);
    }
    for (int b = 0; b < nb; b++) {
        __m256i sum[LM_TILE]; // of 16 products each, 15 times 127 at most: less than 2^15
        for (int i = 0; i < 8; i++) {
            for (int t = 0; t < n; t++) {
                const __m256i two = lm_four(p->q[b][i], &cols[t][b], i);
                sum[t] = i == 0 ? two : _mm256_add_epi16(sum[t], two);
                __asm__("" : "+x"(sum[t])); // added now: gcc would keep all 32 products, on the stack, and add them as a tree
            }
        }
        for (int t = 0; t < n; t++) {
            acc[t] = lm_add(acc[t], sum[t], p->d[b], p->m[b], scales[t].d[b], scales[t].s[b]);
        }
    }
    for (int t = 0; t < n; t++) {
        _mm256_storeu_ps(C[t], acc[t]);
    }
}

// lm_column computes eight rows of one column, whose blocks are unpacked for it alone.
static void lm_column(const char * rows, size_t stride, const block_q8_1 * x, int64_t nb, float * C) {
    __m256 acc = _mm256_setzero_ps();
    for (int64_t b = 0; b < nb; b++) {
        __m256i q[8];
        __m256  d, m;
        lm_unpack(rows, stride, b, q, &d, &m);
        __m256i sum = lm_four(q[0], &x[b], 0);
        for (int i = 1; i < 8; i++) {
            sum = _mm256_add_epi16(sum, lm_four(q[i], &x[b], i));
        }
        acc = lm_add(acc, sum, d, m, GGML_CPU_FP16_TO_FP32(x[b].d), GGML_CPU_FP16_TO_FP32(x[b].s));
    }
    _mm256_storeu_ps(C, acc);
}

// lm_rows computes the rows from first on, groups times eight of them, of all columns.
static void lm_rows(const struct ggml_tensor * src0, const block_q8_1 * B, struct ggml_tensor * dst, int64_t row, int groups) {
    const int64_t nb = src0->ne[0]/QK4_1;
    const int64_t n  = dst->ne[1];
    if (n == 1) {
        for (int64_t r = row; r < row + groups*LM_ROWS; r += LM_ROWS) {
            lm_column((const char *) src0->data + r*src0->nb[1], src0->nb[1], B, nb, (float *) dst->data + r);
        }
        return;
    }
    struct lm_panel  panels[LM_GROUPS];
    struct lm_scales scales[LM_TILE];
    for (int64_t from = 0; from < nb; from += LM_PANEL) {
        const int blocks = (int) MIN(LM_PANEL, nb - from);
        for (int g = 0; g < groups; g++) {
            const char * rows = (const char *) src0->data + (row + g*LM_ROWS)*src0->nb[1] + from*sizeof(block_q4_1);
            for (int b = 0; b < blocks; b++) {
                lm_unpack(rows, src0->nb[1], b, panels[g].q[b], &panels[g].d[b], &panels[g].m[b]);
            }
        }
        for (int64_t col = 0; col < n; col += LM_TILE) {
            const int          tile = (int) MIN(LM_TILE, n - col);
            const block_q8_1 * cols[LM_TILE];
            for (int t = 0; t < tile; t++) {
                cols[t] = B + (col + t)*nb + from;
                for (int b = 0; b < blocks; b++) {
                    scales[t].d[b] = GGML_CPU_FP16_TO_FP32(cols[t][b].d);
                    scales[t].s[b] = GGML_CPU_FP16_TO_FP32(cols[t][b].s);
                }
            }
            for (int g = 0; g < groups; g++) {
                float * C[LM_TILE];
                for (int t = 0; t < tile; t++) {
                    C[t] = (float *) ((char *) dst->data + (col + t)*dst->nb[1]) + row + g*LM_ROWS;
                }
                switch (tile) {
                    case 4: lm_tile(&panels[g], scales, cols, blocks, C, from == 0, 4); break;
                    case 3: lm_tile(&panels[g], scales, cols, blocks, C, from == 0, 3); break;
                    case 2: lm_tile(&panels[g], scales, cols, blocks, C, from == 0, 2); break;
                    case 1: lm_tile(&panels[g], scales, cols, blocks, C, from == 0, 1); break;
                }
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
    const int64_t all    = src0->ne[1]/LM_ROWS;
    const int64_t each   = all/(4*params->nth); // four turns a thread, for a thread that is held up
    const int64_t groups = each < 1 ? 1 : MIN(each, LM_GROUPS);
    for (int64_t turn = params->ith; turn*groups < all;
         turn = atomic_fetch_add_explicit(&params->threadpool->current_chunk, 1, memory_order_relaxed)) {
        lm_rows(src0, params->wdata, dst, turn*groups*LM_ROWS, (int) MIN(groups, all - turn*groups));
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

