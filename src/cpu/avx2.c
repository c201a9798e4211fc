/* AVX2 with FMA and F16C: 8 lanes of fp32, 16 registers, no masks but for fp32 loads.
 *
 *   instruction              latency, throughput (cycles; Skylake / Zen 3)
 *   vfmadd ymm               4, 0.5 / 4, 0.5   the four taps of a vector: 2 cycles
 *   vpalignr + vperm2i128    1+3, 1 / 1+3.5, 1 a shift across the lane border takes both; one
 *                                              vperm2i128 serves all the taps of a vector
 *   vpslld, vpand            1, 0.5 / 1, 0.5   bf16 of even and of odd place to fp32
 *   vcvtph2ps                5-6, 1 / 4, 1     fp16 widens once and is shifted as fp32
 *   vshufps + vpermpd        1+3, 1 / 1+6, 1   halves a row in the update
 *   vdivps ymm               11, 5 / 10.5, 5   near enough to vrcpps with two refinements, and
 * exact (uops.info; Intel 248966-050 appendix D.) */
#include "features.h"

#ifdef CC1D_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include <immintrin.h>

#include "vector.inc.h"

#define BF16_PAIRS 1
enum { LANES = 8, GROUP = 4 };
typedef __m256 vr;
typedef int lanes __attribute__((vector_size(32))); /* for constants */
typedef char bytes __attribute__((vector_size(16)));

INLINE vr vr_set(float a)
{
    return _mm256_set1_ps(a);
}

INLINE vr vr_add(vr a, vr b)
{
    return _mm256_add_ps(a, b);
}

INLINE vr vr_sub(vr a, vr b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vr vr_mul(vr a, vr b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vr vr_fma(vr a, vr b, vr c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE float vr_sum(vr a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* All ones in the first n lanes. */
INLINE __m256i first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vr vr_keep(vr a, int n)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(first(n)));
}

INLINE vr vr_keep_bits(vr a, const uint8_t *masks, const int step, int bits)
{
    __m256i m = step == 1 ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)masks))
                          : _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)masks));
    m = _mm256_and_si256(m, _mm256_set1_epi32(bits));
    __m256i none = _mm256_cmpeq_epi32(m, _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_castsi256_ps(none), a);
}

INLINE vr vr_shift(vr prev, vr cur, int k)
{
    __m256i p = _mm256_castps_si256(prev), c = _mm256_castps_si256(cur);
    __m256i middle = _mm256_permute2x128_si256(p, c, 0x21);
    switch (k) {
    case 1: return _mm256_castsi256_ps(_mm256_alignr_epi8(c, middle, 12));
    case 2: return _mm256_castsi256_ps(_mm256_alignr_epi8(c, middle, 8));
    case 3: return _mm256_castsi256_ps(_mm256_alignr_epi8(c, middle, 4));
    case 4: return _mm256_castsi256_ps(middle);
    case 5: return _mm256_castsi256_ps(_mm256_alignr_epi8(middle, p, 12));
    case 6: return _mm256_castsi256_ps(_mm256_alignr_epi8(middle, p, 8));
    case 7: return _mm256_castsi256_ps(_mm256_alignr_epi8(middle, p, 4));
    case LANES: return prev;
    default: return cur;
    }
}

/* Rounds to bf16, in the upper half of each lane; a NaN is cut off. */
INLINE __m256i round_bf16(vr a)
{
    __m256i u = _mm256_castps_si256(a), one = _mm256_set1_epi32(1);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
    __m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    __m256i number = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_ORD_Q));
    return _mm256_add_epi32(u, _mm256_and_si256(up, number));
}

INLINE __m128i to_16(vr a, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT16)
        return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256i r = _mm256_srli_epi32(round_bf16(a), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

INLINE vr vr_load(const void *p, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm256_loadu_ps(p);
    __m128i h = _mm_loadu_si128(p);
    if (dtype == CAUSAL_CONV1D_FLOAT16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE void vr_store(void *p, causal_conv1d_dtype dtype, vr a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm256_storeu_ps(p, a);
    else
        _mm_storeu_si128(p, to_16(a, dtype));
}

INLINE void vr_stream(void *p, causal_conv1d_dtype dtype, vr a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm256_stream_ps(p, a);
    else
        _mm_stream_si128(p, to_16(a, dtype));
}

INLINE void vr_end_stream(void)
{
    _mm_sfence();
}

INLINE vr vr_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm256_maskload_ps(p, first(n));
    char part[2 * LANES] = {0};
    memcpy(part, p, (size_t)n * 2);
    return vr_load(part, dtype);
}

INLINE void vr_store_n(void *p, causal_conv1d_dtype dtype, vr a, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) {
        _mm256_maskstore_ps(p, first(n), a);
    } else {
        char part[2 * LANES];
        vr_store(part, dtype, a);
        memcpy(p, part, (size_t)n * 2);
    }
}

INLINE void vr_split_bf16(vr a, vr *even, vr *odd)
{
    __m256i both = _mm256_castps_si256(a);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000)));
}

INLINE void vr_load_bf16(const void *p, vr *even, vr *odd)
{
    vr_split_bf16(_mm256_loadu_ps(p), even, odd);
}

INLINE void vr_load_bf16_n(const void *p, vr *even, vr *odd, int n)
{
    char part[4 * LANES] = {0};
    memcpy(part, p, (size_t)n * 2);
    vr_load_bf16(part, even, odd);
}

INLINE __m256i join_bf16(vr even, vr odd)
{
    __m256i low = _mm256_srli_epi32(round_bf16(even), 16);
    return _mm256_blend_epi16(low, round_bf16(odd), 0xaa);
}

INLINE void vr_store_bf16(void *p, vr even, vr odd)
{
    _mm256_storeu_si256(p, join_bf16(even, odd));
}

INLINE void vr_stream_bf16(void *p, vr even, vr odd)
{
    _mm256_stream_si256(p, join_bf16(even, odd));
}

INLINE void vr_store_bf16_n(void *p, vr even, vr odd, int n)
{
    char part[4 * LANES];
    vr_store_bf16(part, even, odd);
    memcpy(p, part, (size_t)n * 2);
}

INLINE void vr_unzip(vr a, vr b, vr *even, vr *odd)
{
    __m256d e = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    __m256d o = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));
    *even = _mm256_castpd_ps(_mm256_permute4x64_pd(e, 0xd8));
    *odd = _mm256_castpd_ps(_mm256_permute4x64_pd(o, 0xd8));
}

/* n being odd, no two of the elements wanted lie in the same lane of their registers. */
INLINE vr vr_pick(const vr *v, const int n, const int j)
{
    const lanes i = {0, 1, 2, 3, 4, 5, 6, 7};
    vr all = v[0];
    EACH (k, n - 1) {
        const lanes here = ((k + 1) * LANES + i) % n == j;
        all = _mm256_blendv_ps(all, v[k + 1], _mm256_castsi256_ps((__m256i)here));
    }
    return _mm256_permutevar8x32_ps(all, (__m256i)(i * n + j));
}

INLINE void vr_move_on(char *p, const void *x, const int size, const int n)
{
    const lanes i = {0, 1, 2, 3, 4, 5, 6, 7};
    const bytes b = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    EACH (r, n) {
        char *to = p + r * LANES * size;
        if (size == 4) {
            const lanes e = r * LANES + i, last = e % n == n - 1;
            const __m256 next = r < n - 1 ? _mm256_loadu_ps((float *)to + 1)
                                          : _mm256_maskload_ps((float *)to + 1, first(LANES - 1));
            const __m256 new = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), (__m256i)(e / n));
            _mm256_storeu_ps((float *)to, _mm256_blendv_ps(next, new, (__m256)last));
        } else {
            const bytes e = (char)(r * LANES) + b / 2, last = e % (char)n == (char)(n - 1);
            const __m128i next = r < n - 1 ? _mm_loadu_si128((__m128i *)(to + 2))
                                           : _mm_srli_si128(_mm_loadu_si128((__m128i *)to), 2);
            const __m128i from = (__m128i)(e / (char)n * 2 + b % 2);
            const __m128i new = _mm_shuffle_epi8(_mm_loadu_si128(x), from);
            _mm_storeu_si128((__m128i *)to, _mm_blendv_epi8(next, new, (__m128i)last));
        }
    }
}

/* A NaN in b stays one, in these two. */
INLINE vr vr_max(vr a, vr b)
{
    return _mm256_max_ps(a, b);
}

INLINE vr vr_min(vr a, vr b)
{
    return _mm256_min_ps(a, b);
}

INLINE vr vr_exponent(vr a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}

INLINE vr vr_reciprocal(vr a)
{
    return _mm256_div_ps(vr_set(1), a);
}

/* LANES rows of LANES become columns. */
INLINE vr vr_reciprocal_bf16(vr a)
{
    return vr_reciprocal(a);
}

#define POWERS 8

/* The bits of 2^(j / 8), less what the shifted j adds. */
ALIGNED static const uint32_t powers[] = {0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7,
                                          0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7};

INLINE vr vr_power(vr k)
{
    const __m256i i = _mm256_castps_si256(k);
    const __m256 found = _mm256_permutevar8x32_ps(_mm256_load_ps((const float *)powers), i);
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(found), _mm256_slli_epi32(i, 20)));
}

INLINE void vr_transpose(vr *v)
{
    vr t[LANES];
    EACH (i, 4) {
        t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    EACH (i, 2) {
        const vr *from = t + 4 * i;
        v[4 * i] = _mm256_shuffle_ps(from[0], from[2], 0x44);
        v[4 * i + 1] = _mm256_shuffle_ps(from[0], from[2], 0xee);
        v[4 * i + 2] = _mm256_shuffle_ps(from[1], from[3], 0x44);
        v[4 * i + 3] = _mm256_shuffle_ps(from[1], from[3], 0xee);
    }
    EACH (i, 4) {
        t[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
    }
    EACH (i, LANES) v[i] = t[i];
}

typedef __m256d vd;

INLINE vd vd_set(double a)
{
    return _mm256_set1_pd(a);
}

INLINE vd vd_add(vd a, vd b)
{
    return _mm256_add_pd(a, b);
}

INLINE vd vd_sub(vd a, vd b)
{
    return _mm256_sub_pd(a, b);
}

INLINE vd vd_mul(vd a, vd b)
{
    return _mm256_mul_pd(a, b);
}

INLINE vd vd_div(vd a, vd b)
{
    return _mm256_div_pd(a, b);
}

INLINE vd vd_fma(vd a, vd b, vd c)
{
    return _mm256_fmadd_pd(a, b, c);
}

INLINE vd vd_max(vd a, vd b)
{
    return _mm256_max_pd(a, b);
}

INLINE vd vd_min(vd a, vd b)
{
    return _mm256_min_pd(a, b);
}

INLINE vd vd_exponent(vd a)
{
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), 52));
}

INLINE vd vd_load(const void *p, causal_conv1d_dtype dtype)
{
    (void)dtype;
    return _mm256_loadu_pd(p);
}

INLINE void vd_store(void *p, causal_conv1d_dtype dtype, vd a)
{
    (void)dtype;
    _mm256_storeu_pd(p, a);
}

INLINE __m256i first_of_4(int n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

INLINE vd vd_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    (void)dtype;
    return _mm256_maskload_pd(p, first_of_4(n));
}

INLINE void vd_store_n(void *p, causal_conv1d_dtype dtype, vd a, int n)
{
    (void)dtype;
    _mm256_maskstore_pd(p, first_of_4(n), a);
}

INLINE void vd_transpose(vd *v)
{
    const vd a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
    const vd c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
    v[0] = _mm256_permute2f128_pd(a, c, 0x20);
    v[1] = _mm256_permute2f128_pd(b, d, 0x20);
    v[2] = _mm256_permute2f128_pd(a, c, 0x31);
    v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#define HOLD(v) __asm__("" : "+x"(v))
enum { CORE_TIMES = 12, CORE_TAPS = 2 };

#define ISA cc1d_avx2
#define ISA_NAME "avx2"
#define ISA_FEATURES (CC1D_avx2 | CC1D_fma | CC1D_f16c)
#include "pair.inc.h"
#include "sigmoid.inc.h"
#include "columns.inc.h"
#include "forward.inc.h"
#include "backward.inc.h"
#include "update.inc.h"
#include "any.inc.h"
#include "table.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int cc1d_not_empty;
#endif
