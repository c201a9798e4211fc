/* Vectors over an ISA's registers: vf, of vl(dtype) lanes for elements of a dtype.
 *
 * A vector is one register, but for bf16 where BF16_PAIRS is 1: then it is two, for the elements of
 * even and of odd place.  Those are a shift and a mask away from memory, where elements in order
 * would have to cross lanes, and neighbours in time are mostly in the other register already.
 * place(i, dtype) is the lane of element i.  What a vector leaves unused costs nothing: it is
 * never stored. */

typedef struct vf {
    vr a, b;
} vf;

enum { MAX_VL = (1 + BF16_PAIRS) * LANES };

INLINE bool is_pair(causal_conv1d_dtype dtype)
{
    return BF16_PAIRS && dtype == CAUSAL_CONV1D_BFLOAT16;
}

INLINE int vl(causal_conv1d_dtype dtype)
{
    return is_pair(dtype) ? 2 * LANES : LANES;
}

INLINE int64_t place(int64_t i, causal_conv1d_dtype dtype)
{
    if (!is_pair(dtype)) return i;
    return i / (2 * LANES) * (2 * LANES) + i % 2 * LANES + i % (2 * LANES) / 2;
}

INLINE vf vf_set(float x)
{
    return (vf){vr_set(x), vr_set(x)};
}

INLINE vf vf_add(vf x, vf y)
{
    return (vf){vr_add(x.a, y.a), vr_add(x.b, y.b)};
}

INLINE vf vf_mul(vf x, vf y)
{
    return (vf){vr_mul(x.a, y.a), vr_mul(x.b, y.b)};
}

INLINE vf vf_fma(vf x, vf y, vf z)
{
    return (vf){vr_fma(x.a, y.a, z.a), vr_fma(x.b, y.b, z.b)};
}

INLINE float vf_sum(vf x, causal_conv1d_dtype dtype)
{
    return is_pair(dtype) ? vr_sum(vr_add(x.a, x.b)) : vr_sum(x.a);
}

/* vl(dtype) floats in memory in the order of the lanes. */
INLINE vf vf_get(const float *p, causal_conv1d_dtype dtype)
{
    const causal_conv1d_dtype f32 = CAUSAL_CONV1D_FLOAT32;
    return (vf){vr_load(p, f32), is_pair(dtype) ? vr_load(p + LANES, f32) : vr_set(0)};
}

INLINE void vf_put(float *p, causal_conv1d_dtype dtype, vf x)
{
    vr_store(p, CAUSAL_CONV1D_FLOAT32, x.a);
    if (is_pair(dtype)) vr_store(p + LANES, CAUSAL_CONV1D_FLOAT32, x.b);
}

/* The first n elements at p, no other byte touched; 0 in the lanes beyond. */
INLINE vf vf_load(const char *p, causal_conv1d_dtype dtype, int64_t n)
{
    vf x = {vr_set(0), vr_set(0)};
#if BF16_PAIRS
    if (dtype == CAUSAL_CONV1D_BFLOAT16) {
        if (n >= 2 * LANES)
            vr_load_bf16(p, &x.a, &x.b);
        else
            vr_load_bf16_n(p, &x.a, &x.b, (int)n);
        return x;
    }
#endif
    x.a = n >= LANES ? vr_load(p, dtype) : vr_load_n(p, dtype, (int)n);
    return x;
}

INLINE void vf_store(char *p, causal_conv1d_dtype dtype, vf x, int64_t n)
{
#if BF16_PAIRS
    if (dtype == CAUSAL_CONV1D_BFLOAT16) {
        if (n >= 2 * LANES)
            vr_store_bf16(p, x.a, x.b);
        else
            vr_store_bf16_n(p, x.a, x.b, (int)n);
        return;
    }
#endif
    if (n >= LANES)
        vr_store(p, dtype, x.a);
    else
        vr_store_n(p, dtype, x.a, (int)n);
}

/* A whole vector, past the caches. */
INLINE void vf_stream(char *p, causal_conv1d_dtype dtype, vf x)
{
#if BF16_PAIRS
    if (dtype == CAUSAL_CONV1D_BFLOAT16) {
        vr_stream_bf16(p, x.a, x.b);
        return;
    }
#endif
    vr_stream(p, dtype, x.a);
}

/* Elements from n on become 0. */
INLINE vf vf_keep(vf x, causal_conv1d_dtype dtype, int n)
{
    if (!is_pair(dtype)) return (vf){vr_keep(x.a, n), x.b};
    return (vf){vr_keep(x.a, (n + 1) / 2), vr_keep(x.b, n / 2)};
}

/* Elements i with no bit of `bits` in masks[i] become 0. */
INLINE vf vf_keep_bits(vf x, causal_conv1d_dtype dtype, const uint8_t *masks, int bits)
{
    if (!is_pair(dtype)) return (vf){vr_keep_bits(x.a, masks, 1, bits), x.b};
    return (vf){vr_keep_bits(x.a, masks, 2, bits), vr_keep_bits(x.b, masks, 2, bits << 8)};
}

/* Element i is element i-k of the row ..prev,cur; k < 2 * LANES in a pair, else k <= LANES. */
INLINE vf vf_shift(vf prev, vf cur, causal_conv1d_dtype dtype, int k)
{
    if (!is_pair(dtype)) return (vf){vr_shift(prev.a, cur.a, k), cur.b};
    const vr even = vr_shift(prev.a, cur.a, k / 2), odd = vr_shift(prev.b, cur.b, (k + 1) / 2);
    return k % 2 ? (vf){odd, even} : (vf){even, odd};
}
