/* AVX2 with FMA and F16C: 8 lanes of fp32, 16 registers, no masks but for fp32 loads.
 *
 *   instruction              latency, throughput (cycles; Skylake / Zen 3)
 *   vfmadd ymm               4, 0.5 / 4, 0.5   the four taps of a vector: 2 cycles
 *   vpalignr + vperm2i128    1+3, 1 / 1+3.5, 1 a shift across the lane border takes both; one
 *                                              vperm2i128 serves all the taps of a vector
 *   vpmovzxwd, vcvtph2ps     3-6, 1 / 4, 1     16-bit loads widen once and are shifted as fp32
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

enum { VL = 8 };
typedef __m256 vf;

INLINE vf vf_set(float a)
{
    return _mm256_set1_ps(a);
}

INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE float vf_sum(vf a)
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

INLINE vf vf_keep(vf a, int n)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(first(n)));
}

INLINE vf vf_keep_bits(vf a, const uint8_t *masks, int bits)
{
    __m256i m = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)masks));
    m = _mm256_and_si256(m, _mm256_set1_epi32(bits));
    __m256i none = _mm256_cmpeq_epi32(m, _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_castsi256_ps(none), a);
}

INLINE vf vf_shift(vf prev, vf cur, int k)
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
    case VL: return prev;
    default: return cur;
    }
}

INLINE vf from_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE __m128i to_bf16(vf a)
{
    __m256i u = _mm256_castps_si256(a), one = _mm256_set1_epi32(1);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc00000), nan);
    r = _mm256_srli_epi32(r, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

INLINE vf vf_load(const void *p, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm256_loadu_ps(p);
    __m128i h = _mm_loadu_si128(p);
    return dtype == CAUSAL_CONV1D_BFLOAT16 ? from_bf16(h) : _mm256_cvtph_ps(h);
}

INLINE void vf_store(void *p, causal_conv1d_dtype dtype, vf a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32)
        _mm256_storeu_ps(p, a);
    else
        _mm_storeu_si128(p, dtype == CAUSAL_CONV1D_BFLOAT16 ? to_bf16(a)
                                                            : _mm256_cvtps_ph(a, NEAREST));
}

INLINE vf vf_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return _mm256_maskload_ps(p, first(n));
    char part[VL * 2] = {0};
    memcpy(part, p, (size_t)n * 2);
    return vf_load(part, dtype);
}

INLINE void vf_store_n(void *p, causal_conv1d_dtype dtype, vf a, int n)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) {
        _mm256_maskstore_ps(p, first(n), a);
    } else {
        char part[VL * 2];
        vf_store(part, dtype, a);
        memcpy(p, part, (size_t)n * 2);
    }
}

/* In each 128-bit lane of four vectors, the 4 x 4 transpose. */
INLINE void transpose(vf *r)
{
    vf a = _mm256_unpacklo_ps(r[0], r[1]), b = _mm256_unpackhi_ps(r[0], r[1]);
    vf c = _mm256_unpacklo_ps(r[2], r[3]), d = _mm256_unpackhi_ps(r[2], r[3]);
    r[0] = _mm256_shuffle_ps(a, c, 0x44), r[1] = _mm256_shuffle_ps(a, c, 0xee);
    r[2] = _mm256_shuffle_ps(b, d, 0x44), r[3] = _mm256_shuffle_ps(b, d, 0xee);
}

/* The transpose leaves the even lanes in the lower half, the odd ones in the upper. */
INLINE vf vf_order(vf a)
{
    return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
}

INLINE vf vf_unorder(vf a)
{
    return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
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
    EACH (i, 4) vf_store(p + i * VL * (int)cc1d_dtype_size(dtype), dtype, r[i]);
}

/* A NaN in b stays one, in these two. */
INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf vf_scale(vf p, vf magic, vf n)
{
    (void)n; /* stands in the low bits of magic too */
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(magic), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

INLINE vf vf_reciprocal(vf a)
{
    return _mm256_div_ps(vf_set(1), a);
}

#define ISA cc1d_avx2
#define ISA_NAME "avx2"
#define ISA_FEATURES (CC1D_avx2 | CC1D_fma | CC1D_f16c)
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
