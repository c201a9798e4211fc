/* NEON, on every aarch64: 32 registers of 4 fp32 lanes, two to a vector.
 *
 *   instruction          latency, cycles each (Apple Firestorm / Arm Neoverse V1)
 *   fmla, fmul           4, 0.25 / 4, 0.25    the four taps of 8 elements: 2 cycles
 *   ext                  2, 0.25 / 2, 0.25    a shifted tap of 4 elements; no lanes to cross
 *   fmax, fmin           2, 0.25 / 2, 0.25
 *   fdiv 4s              10, 1 / 7-10, 3.5    exact; frecpe and two steps would take 5 slots of the
 *                                             pipes that the fma fill
 *   shll, addhn          2, 0.25 / 2, 0.5     bf16 to fp32 is a shift, back an addition and a shift
 *   bfcvtn               3, 0.25 / 4, 0.5     rounds four to bf16 (Apple M2, Neoverse V1 and later)
 *   fcvtl, fcvtn         3, 0.25 / 4-6, 1     fp16, on every aarch64
 * Four pipes and fma of 4 cycles want 16 independent operations: SiLU of a group is 8 at a time,
 * and the next group overlaps.  Not timed: counted under emulation only. (Dougall Johnson,
 * Firestorm SIMD tables; Arm Neoverse V1 Software Optimization Guide.) */
#include "features.h"

#ifdef CC1D_AARCH64

#ifdef ONLY_BF16 /* see neon_bf16.c */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+bf16")
#endif
#endif

#include <arm_neon.h>

#include "vector.inc.h"

#define BF16_PAIRS 0 /* the order of memory is as cheap here */
enum { LANES = 8, GROUP = 4 };
typedef struct vr {
    float32x4_t l, h;
} vr;

INLINE vr vr_set(float a)
{
    return (vr){vdupq_n_f32(a), vdupq_n_f32(a)};
}

INLINE vr vr_add(vr a, vr b)
{
    return (vr){vaddq_f32(a.l, b.l), vaddq_f32(a.h, b.h)};
}

INLINE vr vr_sub(vr a, vr b)
{
    return (vr){vsubq_f32(a.l, b.l), vsubq_f32(a.h, b.h)};
}

INLINE vr vr_mul(vr a, vr b)
{
    return (vr){vmulq_f32(a.l, b.l), vmulq_f32(a.h, b.h)};
}

INLINE vr vr_fma(vr a, vr b, vr c)
{
    return (vr){vfmaq_f32(c.l, a.l, b.l), vfmaq_f32(c.h, a.h, b.h)};
}

INLINE float vr_sum(vr a)
{
    return vaddvq_f32(vaddq_f32(a.l, a.h));
}

/* A NaN on either side stays one, in these two. */
INLINE vr vr_max(vr a, vr b)
{
    return (vr){vmaxq_f32(a.l, b.l), vmaxq_f32(a.h, b.h)};
}

INLINE vr vr_min(vr a, vr b)
{
    return (vr){vminq_f32(a.l, b.l), vminq_f32(a.h, b.h)};
}

INLINE float32x4_t exponent(float32x4_t a)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 23));
}

INLINE vr vr_exponent(vr a)
{
    return (vr){exponent(a.l), exponent(a.h)};
}

INLINE vr vr_reciprocal(vr a)
{
    return (vr){vdivq_f32(vdupq_n_f32(1), a.l), vdivq_f32(vdupq_n_f32(1), a.h)};
}

INLINE float32x4_t from_16(uint16x4_t h, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT16) return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* Rounds to bf16 by adding half a unit, less if the result is even; a NaN is cut off. */
INLINE uint16x4_t to_bf16(float32x4_t a)
{
#ifdef ONLY_BF16
    return vreinterpret_u16_bf16(vcvt_bf16_f32(a));
#else
    uint32x4_t u = vreinterpretq_u32_f32(a);
    uint32x4_t up = vaddq_u32(vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
    return vaddhn_u32(u, vandq_u32(up, vceqq_f32(a, a)));
#endif
}

INLINE uint16x4_t to_16(float32x4_t a, causal_conv1d_dtype dtype)
{
    return dtype == CAUSAL_CONV1D_FLOAT16 ? vreinterpret_u16_f16(vcvt_f16_f32(a)) : to_bf16(a);
}

INLINE vr vr_load(const void *p, causal_conv1d_dtype dtype)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) return (vr){vld1q_f32(p), vld1q_f32((const float *)p + 4)};
    uint16x8_t h = vld1q_u16(p);
    return (vr){from_16(vget_low_u16(h), dtype), from_16(vget_high_u16(h), dtype)};
}

INLINE void vr_store(void *p, causal_conv1d_dtype dtype, vr a)
{
    if (dtype == CAUSAL_CONV1D_FLOAT32) {
        vst1q_f32(p, a.l);
        vst1q_f32((float *)p + 4, a.h);
    } else {
        vst1q_u16(p, vcombine_u16(to_16(a.l, dtype), to_16(a.h, dtype)));
    }
}

/* These cores notice by themselves that lines are written whole, and do not read them first. */
INLINE void vr_stream(void *p, causal_conv1d_dtype dtype, vr a)
{
    vr_store(p, dtype, a);
}

INLINE void vr_end_stream(void)
{
}

INLINE vr vr_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    char part[LANES * sizeof(float)] = {0};
    memcpy(part, p, (size_t)n * cc1d_dtype_size(dtype));
    return vr_load(part, dtype);
}

INLINE void vr_store_n(void *p, causal_conv1d_dtype dtype, vr a, int n)
{
    char part[LANES * sizeof(float)];
    vr_store(part, dtype, a);
    memcpy(p, part, (size_t)n * cc1d_dtype_size(dtype));
}

INLINE float32x4_t mask(float32x4_t a, uint32x4_t m)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), m));
}

INLINE vr vr_keep(vr a, int n)
{
    const uint32_t lane[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const uint32x4_t end = vdupq_n_u32((uint32_t)n);
    return (vr){mask(a.l, vcltq_u32(vld1q_u32(lane), end)),
                mask(a.h, vcltq_u32(vld1q_u32(lane + 4), end))};
}

INLINE vr vr_keep_bits(vr a, const uint8_t *masks, const int step, int bits)
{
    (void)step; /* 1: there are no pairs */
    const uint16x8_t m = vmovl_u8(vand_u8(vld1_u8(masks), vdup_n_u8((uint8_t)bits)));
    const uint32x4_t l = vmovl_u16(vget_low_u16(m)), h = vmovl_u16(vget_high_u16(m));
    return (vr){mask(a.l, vtstq_u32(l, l)), mask(a.h, vtstq_u32(h, h))};
}

INLINE vr vr_shift(vr prev, vr cur, int k)
{
    switch (k) {
#define CASE(k)                                                                           \
    case k: return (vr){vextq_f32(prev.h, cur.l, 4 - k), vextq_f32(cur.l, cur.h, 4 - k)}; \
    case k + 4: return (vr){vextq_f32(prev.l, prev.h, 4 - k), vextq_f32(prev.h, cur.l, 4 - k)};
        CASE(1)
        CASE(2)
        CASE(3)
#undef CASE
    case 4: return (vr){prev.h, cur.l};
    case LANES: return prev;
    default: return cur;
    }
}

INLINE void vr_unzip(vr a, vr b, vr *even, vr *odd)
{
    *even = (vr){vuzp1q_f32(a.l, a.h), vuzp1q_f32(b.l, b.h)};
    *odd = (vr){vuzp2q_f32(a.l, a.h), vuzp2q_f32(b.l, b.h)};
}

INLINE vr vr_pick(const vr *v, const int n, const int j)
{
    float lane[LANES];
    EACH (i, LANES) {
        const int from = i * n + j;
        const vr r = v[from / LANES];
        const float32x4_t half = from % LANES < 4 ? r.l : r.h;
        lane[i] = half[from % 4];
    }
    return vr_load(lane, CAUSAL_CONV1D_FLOAT32);
}

INLINE void vr_move_on(char *p, const void *x, const int size, const int n)
{
    const uint8x16_t byte = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint8x16_t size16 = vdupq_n_u8((uint8_t)size), n16 = vdupq_n_u8((uint8_t)n);
    const uint8_t *from = x;
    const uint8x16x2_t all = {{vld1q_u8(from), vld1q_u8(from + LANES * size - 16)}};
    const int blocks = LANES * n * size / 16;
    EACH (r, blocks) {
        uint8_t *to = (uint8_t *)p + 16 * r;
        const uint8x16_t e = vdupq_n_u8((uint8_t)(16 / size * r)) + byte / size16;
        const uint8x16_t next = r < blocks - 1 ? vld1q_u8(to + size)
                                : size == 4    ? vextq_u8(vld1q_u8(to), byte, 4)
                                               : vextq_u8(vld1q_u8(to), byte, 2);
        const uint8x16_t new = vqtbl2q_u8(all, e / n16 * size16 + byte % size16);
        vst1q_u8(to, vbslq_u8((uint8x16_t)(e % n16 == n16 - 1), new, next));
    }
}

INLINE void vr_transpose(vr *v)
{
    TRANSPOSE(v, vr, LANES, vr_unzip);
}

typedef struct vd {
    float64x2_t l, h;
} vd;

INLINE vd vd_set(double a)
{
    return (vd){vdupq_n_f64(a), vdupq_n_f64(a)};
}

INLINE vd vd_add(vd a, vd b)
{
    return (vd){vaddq_f64(a.l, b.l), vaddq_f64(a.h, b.h)};
}

INLINE vd vd_sub(vd a, vd b)
{
    return (vd){vsubq_f64(a.l, b.l), vsubq_f64(a.h, b.h)};
}

INLINE vd vd_mul(vd a, vd b)
{
    return (vd){vmulq_f64(a.l, b.l), vmulq_f64(a.h, b.h)};
}

INLINE vd vd_div(vd a, vd b)
{
    return (vd){vdivq_f64(a.l, b.l), vdivq_f64(a.h, b.h)};
}

INLINE vd vd_fma(vd a, vd b, vd c)
{
    return (vd){vfmaq_f64(c.l, a.l, b.l), vfmaq_f64(c.h, a.h, b.h)};
}

INLINE vd vd_max(vd a, vd b)
{
    return (vd){vmaxq_f64(a.l, b.l), vmaxq_f64(a.h, b.h)};
}

INLINE vd vd_min(vd a, vd b)
{
    return (vd){vminq_f64(a.l, b.l), vminq_f64(a.h, b.h)};
}

INLINE float64x2_t exponent64(float64x2_t a)
{
    return vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(a), 52));
}

INLINE vd vd_exponent(vd a)
{
    return (vd){exponent64(a.l), exponent64(a.h)};
}

INLINE vd vd_load(const void *p, causal_conv1d_dtype dtype)
{
    (void)dtype;
    return (vd){vld1q_f64(p), vld1q_f64((const double *)p + 2)};
}

INLINE void vd_store(void *p, causal_conv1d_dtype dtype, vd a)
{
    (void)dtype;
    vst1q_f64(p, a.l);
    vst1q_f64((double *)p + 2, a.h);
}

INLINE vd vd_load_n(const void *p, causal_conv1d_dtype dtype, int n)
{
    double part[LANES / 2] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return vd_load(part, dtype);
}

INLINE void vd_store_n(void *p, causal_conv1d_dtype dtype, vd a, int n)
{
    double part[LANES / 2];
    vd_store(part, dtype, a);
    memcpy(p, part, (size_t)n * sizeof *part);
}

INLINE void vd_unzip(vd a, vd b, vd *even, vd *odd)
{
    *even = (vd){vuzp1q_f64(a.l, a.h), vuzp1q_f64(b.l, b.h)};
    *odd = (vd){vuzp2q_f64(a.l, a.h), vuzp2q_f64(b.l, b.h)};
}

INLINE void vd_transpose(vd *v)
{
    TRANSPOSE(v, vd, LANES / 2, vd_unzip);
}

#define HOLD(v) __asm__("" : "+w"((v).l), "+w"((v).h))
enum { CORE_TIMES = 12, CORE_TAPS = 2 };

#ifdef ONLY_BF16
extern const cc1d_isa cc1d_neon; /* for the other dtypes */
#define OTHER_KERNELS cc1d_neon.kernels
#define OTHER_ANY cc1d_neon.any
#define ISA cc1d_neon_bf16
#define ISA_NAME "neon_bf16"
#define ISA_FEATURES (CC1D_neon | CC1D_bf16)
#else
#define ISA cc1d_neon
#define ISA_NAME "neon"
#define ISA_FEATURES CC1D_neon
#endif
#include "pair.inc.h"
#include "sigmoid.inc.h"
#include "columns.inc.h"
#include "forward.inc.h"
#include "backward.inc.h"
#include "update.inc.h"
#ifndef ONLY_BF16
#include "any.inc.h"
#endif
#include "table.inc.h"

#if defined(ONLY_BF16) && defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int cc1d_not_empty;
#endif
