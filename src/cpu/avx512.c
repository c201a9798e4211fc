/* AVX-512 (F, BW, VL): 16 lanes of fp32, masks for ragged ends, 32 registers.
 *
 *   instruction          latency, cycles each (Golden Cove / Zen 4)
 *   vfmadd, vmaxps zmm   4, 0.5 / 4, 1       the four taps of a vector: 2 cycles
 *   valignd zmm          3, 1   / 4, 1       a shifted tap out of two registers; a reload that
 *                                            straddles a cache line would take two load slots
 *   vpslld, vpandd       1, 1 and 0.5        bf16 of even and of odd place to fp32; vpmovzxwd keeps
 *                                            the order, on the one port that crosses lanes
 *   vptestmd, vcmpps     3, 1 / 4, 0.5       with two masked additions: rounding to bf16
 *   vcvtph2ps, vcvtps2ph 7, 1 / 5, 1         fp16
 *   vrcp14ps + 2 fma     15, 3               vdivps zmm takes 10 cycles
 *   vpermt2ps, vpermw    3, 1 / 4, 1         halve a row in the update; put x into the state
 *   vmovntps, vmovntdq   a line goes to memory without being read first: 64 MB in 7 ms, not in 10
 * SiLU is 16 such operations and a vrcp14ps, which holds both ports for 2 cycles: 10 a vector.
 * Not used: vcvtneps2bf16 of AVX512-BF16 takes 2 cycles, as the rounding above does, and makes
 * denormals 0; the conversions of AVX512-FP16 do what those above do. (Cycles on Golden Cove
 * measured on an Emerald Rapids; uops.info; Intel 248966-050 appendix D.) */
#include "features.h"

#ifdef CC1D_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl")
#endif

#include <immintrin.h>

#include "vector.inc.h"

#define BF16_PAIRS 1
enum { LANES = 16, GROUP = 8 };
typedef __m512 vr;

INLINE vr vr_set(float a)
{
    return _mm512_set1_ps(a);
}

INLINE vr vr_add(vr a, vr b)
{
    return _mm512_add_ps(a, b);
}

INLINE vr vr_sub(vr a, vr b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vr vr_mul(vr a, vr b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vr vr_fma(vr a, vr b, vr c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE float vr_sum(vr a)
{
    return _mm512_reduce_add_ps(a);
}

INLINE __mmask16 first(int n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE vr vr_keep(vr a, int n)
{
    return _mm512_maskz_mov_ps(first(n), a);
}

INLINE vr vr_keep_bits(vr a, const uint8_t *masks, const int step, int bits)
{
    __m512i m = step == 1 ? _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)masks))
                          : _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)masks));
    return _mm512_maskz_mov_ps(_mm512_test_epi32_mask(m, _mm512_set1_epi32(bits)), a);
}

INLINE vr vr_shift(vr prev, vr cur, int k)
{
    __m512i p = _mm512_castps_si512(prev), c = _mm512_castps_si512(cur);
    switch (k) {
#define CASE(k) \
    case k: return _mm512_castsi512_ps(_mm512_alignr_epi32(c, p, LANES - k));
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
        CASE(13)
        CASE(14)
        CASE(15)
#undef CASE
    case LANES: return prev;
    default: return cur;
    }
}

/* Rounds to bf16, in the upper half of each lane; a NaN is cut off. */
INLINE __m512i round_bf16(vr a)
{
    __m512i u = _mm512_castps_si512(a);
    __mmask16 number = _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q);
    __mmask16 odd = _mm512_mask_test_epi32_mask(number, u, _mm512_set1_epi32(0x10000));
    u = _mm512_mask_add_epi32(u, number, u, _mm512_set1_epi32(0x7fff));
    return _mm512_mask_add_epi32(u, odd, u, _mm512_set1_epi32(1));
}

INLINE __m256i to_16(vr a, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT16)
        return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(a), 16));
}

INLINE vr from_16(__m256i h, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE vr vr_load(const void *p, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm512_loadu_ps(p);
    return from_16(_mm256_loadu_si256(p), dtype);
}

INLINE vr vr_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm512_maskz_loadu_ps(first(n), p);
    return from_16(_mm256_maskz_loadu_epi16(first(n), p), dtype);
}

INLINE void vr_store(void *p, causal_conv1d_dtype dtype, vr a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm512_storeu_ps(p, a);
    else
        _mm256_storeu_si256(p, to_16(a, dtype));
}

INLINE void vr_stream(void *p, causal_conv1d_dtype dtype, vr a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm512_stream_ps(p, a);
    else
        _mm256_stream_si256(p, to_16(a, dtype));
}

INLINE void vr_end_stream(void)
{
    _mm_sfence();
}

INLINE void vr_store_n(void *p, causal_conv1d_dtype dtype, vr a, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm512_mask_storeu_ps(p, first(n), a);
    else
        _mm256_mask_storeu_epi16(p, first(n), to_16(a, dtype));
}

INLINE __m512i upper_halves(void)
{
    return _mm512_set1_epi32((int)0xffff0000);
}

INLINE void vr_split_bf16(vr a, vr *even, vr *odd)
{
    __m512i both = _mm512_castps_si512(a);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(both, upper_halves()));
}

INLINE __m512i join_bf16(vr even, vr odd)
{
    __m512i low = _mm512_srli_epi32(round_bf16(even), 16); /* 0xca: a ? b : c */
    return _mm512_ternarylogic_epi32(upper_halves(), round_bf16(odd), low, 0xca);
}

INLINE void vr_load_bf16(const void *p, vr *even, vr *odd)
{
    vr_split_bf16(_mm512_loadu_ps(p), even, odd);
}

INLINE void vr_load_bf16_n(const void *p, vr *even, vr *odd, int n)
{
    __m512i both = _mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << n) - 1), p);
    vr_split_bf16(_mm512_castsi512_ps(both), even, odd);
}

INLINE void vr_store_bf16(void *p, vr even, vr odd)
{
    _mm512_storeu_si512(p, join_bf16(even, odd));
}

INLINE void vr_stream_bf16(void *p, vr even, vr odd)
{
    _mm512_stream_si512(p, join_bf16(even, odd));
}

INLINE void vr_store_bf16_n(void *p, vr even, vr odd, int n)
{
    _mm512_mask_storeu_epi16(p, (__mmask32)((UINT64_C(1) << n) - 1), join_bf16(even, odd));
}

/* Lane i holds i * n + j. */
INLINE __m512i places(int n, int j)
{
    const __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_mullo_epi32(i, _mm512_set1_epi32(n)), _mm512_set1_epi32(j));
}

INLINE void vr_unzip(vr a, vr b, vr *even, vr *odd)
{
    *even = _mm512_permutex2var_ps(a, places(2, 0), b);
    *odd = _mm512_permutex2var_ps(a, places(2, 1), b);
}

/* Two registers at a time; the instruction takes a place modulo 32. */
INLINE vr vr_pick(const vr *v, const int n, const int j)
{
    const __m512i from = places(n, j);
    vr r = n == 1 ? v[0] : _mm512_permutex2var_ps(v[0], from, v[1]);
    EACH (k, n / 2) {
        unsigned here = 0;
        EACH (i, LANES) here |= (unsigned)((i * n + j) / (2 * LANES) == k + 1) << i;
        const vr second = 2 * k + 3 < n ? v[2 * k + 3] : v[2 * k + 2];
        r = _mm512_mask_mov_ps(r, (__mmask16)here,
                               _mm512_permutex2var_ps(v[2 * k + 2], from, second));
    }
    return r;
}

typedef int ints __attribute__((vector_size(64))); /* for constants */
typedef short shorts __attribute__((vector_size(64)));

/* The elements i of register r for which row (r * lanes + i) / n has its last. */
INLINE __mmask32 last_of_rows(const int r, const int lanes, const int n)
{
    __mmask32 last = 0;
    EACH (i, lanes) last |= (__mmask32)((r * lanes + i) % n == n - 1) << i;
    return last;
}

INLINE void vr_move_on(char *p, const void *x, const int size, const int n)
{
    const ints i4 = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const shorts i2 = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    const __m512i new =
        size == 4 ? _mm512_loadu_si512(x) : _mm512_castsi256_si512(_mm256_loadu_si256(x));
    const int lanes = 64 / size, registers = (LANES * n + lanes - 1) / lanes;
    EACH (r, registers) { /* of which the last may be half a one */
        char *to = p + r * 64;
        if (size == 4) {
            const __mmask16 last = (__mmask16)last_of_rows(r, lanes, n);
            const __m512i row = (__m512i)((r * lanes + i4) / n);
            const __m512i next = _mm512_maskz_loadu_epi32((__mmask16)~last, to + 4);
            _mm512_storeu_si512(to, _mm512_mask_permutexvar_epi32(next, last, row, new));
        } else {
            const bool half = LANES * n % lanes != 0 && r == registers - 1;
            const __mmask32 last = last_of_rows(r, lanes, n);
            const __m512i row = (__m512i)(((short)(r * lanes) + i2) / (short)n);
            __m512i v = _mm512_maskz_loadu_epi16((half ? 0xffff : 0xffffffff) & ~last, to + 2);
            v = _mm512_mask_permutexvar_epi16(v, last, row, new);
            /* A masked store would keep the next load waiting. */
            if (half)
                _mm256_storeu_si256((__m256i *)to, _mm512_castsi512_si256(v));
            else
                _mm512_storeu_si512(to, v);
        }
    }
}

/* A NaN in b stays one, in these two. */
INLINE vr vr_max(vr a, vr b)
{
    return _mm512_max_ps(a, b);
}

INLINE vr vr_min(vr a, vr b)
{
    return _mm512_min_ps(a, b);
}

INLINE vr vr_exponent(vr a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}

INLINE vr vr_reciprocal(vr a)
{
    vr r = _mm512_rcp14_ps(a);
    return vr_fma(r, _mm512_fnmadd_ps(a, r, vr_set(1)), r);
}

INLINE vr vr_reciprocal_bf16(vr a)
{
    return _mm512_rcp14_ps(a);
}

#define POWERS 32

/* The bits of 2^(j / 32), less what the shifted j adds. */
ALIGNED static const uint32_t powers[] = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
    0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
    0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3};

INLINE vr vr_power(vr k)
{
    const __m512i i = _mm512_castps_si512(k);
    const __m512 found = _mm512_permutex2var_ps(_mm512_load_ps((const float *)powers), i,
                                                _mm512_load_ps((const float *)powers + 16));
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(found), _mm512_slli_epi32(i, 18)));
}

INLINE void vr_transpose(vr *v)
{
    TRANSPOSE(v, vr, LANES, vr_unzip);
}

typedef __m512d vd;

INLINE vd vd_set(double a)
{
    return _mm512_set1_pd(a);
}

INLINE vd vd_add(vd a, vd b)
{
    return _mm512_add_pd(a, b);
}

INLINE vd vd_sub(vd a, vd b)
{
    return _mm512_sub_pd(a, b);
}

INLINE vd vd_mul(vd a, vd b)
{
    return _mm512_mul_pd(a, b);
}

INLINE vd vd_div(vd a, vd b)
{
    return _mm512_div_pd(a, b);
}

INLINE vd vd_fma(vd a, vd b, vd c)
{
    return _mm512_fmadd_pd(a, b, c);
}

INLINE vd vd_max(vd a, vd b)
{
    return _mm512_max_pd(a, b);
}

INLINE vd vd_min(vd a, vd b)
{
    return _mm512_min_pd(a, b);
}

INLINE vd vd_exponent(vd a)
{
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), 52));
}

INLINE vd vd_load(const void *p, causal_conv1d_dtype dtype)
{
    (void)dtype;
    return _mm512_loadu_pd(p);
}

INLINE void vd_store(void *p, causal_conv1d_dtype dtype, vd a)
{
    (void)dtype;
    _mm512_storeu_pd(p, a);
}

INLINE vd vd_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    (void)dtype;
    return _mm512_maskz_loadu_pd((__mmask8)first(n), p);
}

INLINE void vd_store_n(void *p, causal_conv1d_dtype dtype, vd a, int n)
{
    (void)dtype;
    _mm512_mask_storeu_pd(p, (__mmask8)first(n), a);
}

INLINE void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    const __m512i place = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    *even = _mm512_permutex2var_pd(a, place, b);
    *odd = _mm512_permutex2var_pd(a, _mm512_add_epi64(place, _mm512_set1_epi64(1)), b);
}

INLINE void vd_transpose(vd *v)
{
    TRANSPOSE(v, vd, LANES / 2, vd_unzip);
}

#define HOLD(v) __asm__("" : "+v"(v))
enum { CORE_TIMES = 16, CORE_TAPS = 4 };

#define ISA cc1d_avx512
#define ISA_NAME "avx512"
#define ISA_FEATURES \
    (CC1D_avx2 | CC1D_fma | CC1D_f16c | CC1D_avx512f | CC1D_avx512bw | CC1D_avx512vl)
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
