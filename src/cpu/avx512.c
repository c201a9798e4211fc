/* AVX-512 (F, BW, VL): 16 lanes of fp32, masks for ragged ends, 32 registers.
 *
 *   instruction          latency, throughput (cycles; Golden Cove / Zen 4)
 *   vfmadd zmm           4, 0.5 / 4, 1       the four taps of a vector: 2 cycles
 *   valignd zmm          3, 1   / 4, 1       a shifted tap out of two registers; a reload that
 *                                            straddles a cache line would take two load slots
 *   vpmovzxwd, vcvtph2ps 3-7, 1 / 5, 1       16-bit loads widen once and are shifted as fp32
 *   vrcp14ps + 2 fma     8-9, 2-4            vdivps zmm takes 16 / 10 per vector
 *   vscalefps            5, 1   / 4, 1       2^n
 * (uops.info; Intel 248966-050 appendix D.) */
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

enum { VL = 16 };
typedef __m512 vf;

INLINE vf vf_set(float a)
{
    return _mm512_set1_ps(a);
}

INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE float vf_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}

INLINE __mmask16 first(int n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE vf vf_keep(vf a, int n)
{
    return _mm512_maskz_mov_ps(first(n), a);
}

INLINE vf vf_keep_bits(vf a, const uint8_t *masks, int bits)
{
    __m512i m = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)masks));
    return _mm512_maskz_mov_ps(_mm512_test_epi32_mask(m, _mm512_set1_epi32(bits)), a);
}

INLINE vf vf_shift(vf prev, vf cur, int k)
{
    __m512i p = _mm512_castps_si512(prev), c = _mm512_castps_si512(cur);
    switch (k) {
#define CASE(k) \
    case k: return _mm512_castsi512_ps(_mm512_alignr_epi32(c, p, VL - k));
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
    case VL: return prev;
    default: return cur;
    }
}

INLINE vf from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE __m256i to_bf16(vf a)
{
    __m512i u = _mm512_castps_si512(a), one = _mm512_set1_epi32(1);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q),
                              _mm512_set1_epi32(0x7fc00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}

enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

INLINE vf vf_load(const void *p, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm512_loadu_ps(p);
    __m256i h = _mm256_loadu_si256(p);
    return dtype == CAUSAL_CONV1D_BFLOAT16 ? from_bf16(h) : _mm512_cvtph_ps(h);
}

INLINE vf vf_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm512_maskz_loadu_ps(first(n), p);
    __m256i h = _mm256_maskz_loadu_epi16(first(n), p);
    return dtype == CAUSAL_CONV1D_BFLOAT16 ? from_bf16(h) : _mm512_cvtph_ps(h);
}

INLINE void vf_store(void *p, causal_conv1d_dtype dtype, vf a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm512_storeu_ps(p, a);
    else
        _mm256_storeu_si256(p, dtype == CAUSAL_CONV1D_BFLOAT16 ? to_bf16(a)
                                                               : _mm512_cvtps_ph(a, NEAREST));
}

INLINE void vf_store_n(void *p, causal_conv1d_dtype dtype, vf a, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm512_mask_storeu_ps(p, first(n), a);
    else
        _mm256_mask_storeu_epi16(p, first(n),
                                 dtype == CAUSAL_CONV1D_BFLOAT16 ? to_bf16(a)
                                                                 : _mm512_cvtps_ph(a, NEAREST));
}

/* In each 128-bit lane of four vectors, the 4 x 4 transpose. */
INLINE void transpose(vf *r)
{
    vf a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
    vf c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
    r[0] = _mm512_shuffle_ps(a, c, 0x44), r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44), r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

/* The transpose leaves lane 4 * i + j where 4 * j + i should be. */
INLINE vf vf_order(vf a)
{
    return _mm512_permutexvar_ps(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), a);
}

INLINE vf vf_unorder(vf a)
{
    return vf_order(a);
}

INLINE void vf_load4(const char *p, causal_conv1d_dtype dtype, vf *column)
{
    EACH (i, 4) column[i] = vf_load(p + i * VL * (int)cc1d_dtype_size(dtype), dtype);
    transpose(column);
}

INLINE void vf_store4(char *p, causal_conv1d_dtype dtype, const vf *column)
{
    vf r[4] = {column[0], column[1], column[2], column[3]};
    transpose(r);
    EACH (i, 4) {
        char *q = p + i * VL * (int)cc1d_dtype_size(dtype);
        if (dtype == CAUSAL_CONV1D_BFLOAT16)
            _mm256_storeu_si256((__m256i *)q, _mm512_cvtepi32_epi16(_mm512_srli_epi32(
                                                  _mm512_castps_si512(r[i]), 16)));
        else
            vf_store(q, dtype, r[i]);
    }
}

/* A NaN in b stays one, in these two. */
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf vf_scale(vf p, vf magic, vf n)
{
    (void)magic;
    return _mm512_scalef_ps(p, n);
}

INLINE vf vf_reciprocal(vf a)
{
    vf r = _mm512_rcp14_ps(a);
    return vf_fma(r, _mm512_fnmadd_ps(a, r, vf_set(1)), r);
}

#define ISA cc1d_avx512
#define ISA_NAME "avx512"
#define ISA_FEATURES \
    (CC1D_avx2 | CC1D_fma | CC1D_f16c | CC1D_avx512f | CC1D_avx512bw | CC1D_avx512vl)
#include "sigmoid.inc.h"
#include "forward.inc.h"
#include "backward.inc.h"
#include "update.inc.h"
#include "table.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int cc1d_not_empty;
#endif
