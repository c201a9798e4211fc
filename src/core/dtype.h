/* Load, store and round fp32, fp16, bf16 and fp64 scalars, in portable C.
 * Rounding is to nearest even, with denormals, as IEEE 754 and F16C do it. */
#ifndef CAUSAL_CONV1D_CORE_DTYPE_H
#define CAUSAL_CONV1D_CORE_DTYPE_H

#include <stdint.h>
#include <string.h>

#include "../../include/causal_conv1d.h"

static inline uint32_t cc1d_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float cc1d_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float cc1d_from_bf16(uint16_t h)
{
    return cc1d_from_bits((uint32_t)h << 16);
}

static inline uint16_t cc1d_to_bf16(float f)
{
    uint32_t u = cc1d_bits(f);
    if (f != f) return 0x7fc0; /* adding the rounding term could turn a NaN into Inf */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float cc1d_from_fp16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if (rest >= 0x0f800000) return cc1d_from_bits(sign | 0x70000000 | rest); /* Inf, NaN */
    /* 2^112 rebiases the exponent and makes denormals normal, exactly. */
    return cc1d_from_bits(sign | cc1d_bits(cc1d_from_bits(rest) * 0x1p112f));
}

static inline uint16_t cc1d_to_fp16(float f)
{
    uint32_t u = cc1d_bits(f), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to 2^16: Inf */
    if (mag < 0x38800000) /* denormal: 0.5 has the unit in the last place wanted, 2^-24 */
        return (uint16_t)(sign | (cc1d_bits(cc1d_from_bits(mag) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((mag - 0x38000000 + 0xfff + (mag >> 13 & 1)) >> 13));
}

/* float64 to float32 towards zero with the last bit sticky ("round to odd"), so that a second
 * rounding to a 16-bit type gives the correct rounding of the float64 (Boldo, Melquiond 2008). */
static inline float cc1d_to_odd(double v)
{
    float f = (float)v;
    uint32_t u = cc1d_bits(f);
    double back = (double)f;
    if (back == v || v != v || f != f) return f;
    if ((back < 0 ? -back : back) > (v < 0 ? -v : v)) u -= 1;
    return cc1d_from_bits(u | 1);
}

static inline size_t cc1d_dtype_size(causal_conv1d_dtype dtype)
{
    switch (dtype) {
    case CAUSAL_CONV1D_FLOAT32:
    case CAUSAL_CONV1D_INT32: return 4;
    case CAUSAL_CONV1D_FLOAT16:
    case CAUSAL_CONV1D_BFLOAT16: return 2;
    case CAUSAL_CONV1D_FLOAT64:
    case CAUSAL_CONV1D_INT64: return 8;
    default: return 0;
    }
}

static inline double cc1d_load(const void *data, causal_conv1d_dtype dtype, int64_t i)
{
    switch (dtype) {
    case CAUSAL_CONV1D_FLOAT32: return (double)((const float *)data)[i];
    case CAUSAL_CONV1D_FLOAT16: return (double)cc1d_from_fp16(((const uint16_t *)data)[i]);
    case CAUSAL_CONV1D_BFLOAT16: return (double)cc1d_from_bf16(((const uint16_t *)data)[i]);
    default: return ((const double *)data)[i];
    }
}

static inline void cc1d_store(void *data, causal_conv1d_dtype dtype, int64_t i, double v)
{
    switch (dtype) {
    case CAUSAL_CONV1D_FLOAT32: ((float *)data)[i] = (float)v; break;
    case CAUSAL_CONV1D_FLOAT16: ((uint16_t *)data)[i] = cc1d_to_fp16(cc1d_to_odd(v)); break;
    case CAUSAL_CONV1D_BFLOAT16: ((uint16_t *)data)[i] = cc1d_to_bf16(cc1d_to_odd(v)); break;
    default: ((double *)data)[i] = v;
    }
}

#endif
