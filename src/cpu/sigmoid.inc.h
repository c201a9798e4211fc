/* SiLU and its derivative over an ISA vocabulary, from e = exp(-v) = 2^n exp(r), n = round(-v/ln
 * 2), with ln 2 in two parts (Cody and Waite 1980) and exp(r) by the polynomial of
 * tools/exp_poly.py. Beyond |v| = 87, where e or 1/e would be denormal, silu is within 2e-36 of 0
 * or rounds to v. docs/numerics.md derives the error.
 *
 * Every step is made for a group of registers before the next: it takes some 18 steps of 4 cycles,
 * and of chains written one after the other an x86 core's scheduler (97 entries in Golden Cove)
 * holds fewer than the 8 that two ports need to be busy. */

/* sigmoid(v), and 1 - sigmoid(v) to rest without a subtraction; |v| <= 87 or NaN. */
INLINE void sigmoid(vr *s, vr *rest, const vr *v, const int n)
{
    /* Added, it leaves no bits behind the point, and the exponent of 2^n as the low ones. */
    const vr round = vr_set(0x1.8p23f + 127);
    vr magic[GROUP], r[GROUP], p[GROUP];
    EACH (i, n) magic[i] = vr_fma(v[i], vr_set(-0x1.715476p0f), round);
    EACH (i, n) p[i] = vr_sub(magic[i], round);
    /* -r, and so the odd coefficients are negative */
    EACH (i, n) r[i] = vr_fma(p[i], vr_set(0x1.62e4p-1f), v[i]);
    EACH (i, n) r[i] = vr_fma(p[i], vr_set(0x1.7f7d1cp-20f), r[i]);
    EACH (i, n) p[i] = vr_fma(r[i], vr_set(-0x1.0fa834p-7f), vr_set(0x1.573a54p-5f));
    EACH (i, n) p[i] = vr_fma(r[i], p[i], vr_set(-0x1.555a6ap-3f));
    EACH (i, n) p[i] = vr_fma(r[i], p[i], vr_set(0x1.fffdc6p-2f));
    EACH (i, n) p[i] = vr_fma(r[i], p[i], vr_set(-0x1.fffff6p-1f));
    EACH (i, n) p[i] = vr_fma(r[i], p[i], vr_set(1));
    EACH (i, n) magic[i] = vr_exponent(magic[i]);
    EACH (i, n) s[i] = vr_fma(p[i], magic[i], vr_set(1));
    EACH (i, n) s[i] = vr_reciprocal(s[i]);
    EACH (i, n) rest[i] = vr_mul(vr_mul(p[i], magic[i]), s[i]);
}

INLINE void silu_group(vr *v, const int n)
{
    vr c[GROUP], s[GROUP], rest[GROUP];
    EACH (i, n) v[i] = vr_max(vr_set(-87), v[i]);
    EACH (i, n) c[i] = vr_min(vr_set(87), v[i]);
    sigmoid(s, rest, c, n);
    EACH (i, n) v[i] = vr_mul(v[i], s[i]);
}

#ifdef POWERS
/* silu for a result that is rounded to 16 bits, within 0.52 units in its last place:
 * e = 2^(k / POWERS) exp(r), the power from a table in registers, exp(r) by the polynomial of
 * tools/exp_poly.py, which so small an r leaves short. */
INLINE void silu_16_group(vr *v, const int n, const causal_conv1d_dtype dtype)
{
    const float c1 = POWERS == 32 ? 0x1.0000f6p0f : 0x1.000f4ap0f;
    const float c2 = POWERS == 32 ? 0x1.fffffep-2f : 0x1.ffffaap-2f;
    const vr round = vr_set(0x1.8p23f);
    vr k[GROUP], r[GROUP];
    EACH (i, n) v[i] = vr_max(vr_set(-87), v[i]);
    EACH (i, n) { /* in one, lest c take registers */
        const vr c = vr_min(vr_set(87), v[i]);
        k[i] = vr_fma(c, vr_set(-0x1.715476p0f * POWERS), round);
        r[i] = vr_fma(vr_sub(k[i], round), vr_set(0x1.62e43p-1f / POWERS), c); /* -r */
    }
    EACH (i, n) k[i] = vr_power(k[i]);
    EACH (i, n) r[i] = vr_fma(r[i], vr_fma(r[i], vr_set(c2), vr_set(-c1)), vr_set(1));
    EACH (i, n) r[i] = vr_fma(r[i], k[i], vr_set(1));
    EACH (i, n)
        r[i] = dtype == CAUSAL_CONV1D_BFLOAT16 ? vr_reciprocal_bf16(r[i]) : vr_reciprocal(r[i]);
    EACH (i, n) v[i] = vr_mul(v[i], r[i]);
}
#endif

/* silu for a result of a dtype. */
INLINE void silu_of(vr *v, const int n, const causal_conv1d_dtype dtype)
{
#ifdef POWERS
    if (cc1d_dtype_size(dtype) == 2) {
        silu_16_group(v, n, dtype);
        return;
    }
#endif
    (void)dtype;
    silu_group(v, n);
}

/* d silu(v) / dv = s (1 + v (1 - s)), s = sigmoid(v). */
INLINE void silu_derivative_group(vr *v, const int n)
{
    vr s[GROUP], rest[GROUP];
    EACH (i, n) v[i] = vr_min(vr_set(87), vr_max(vr_set(-87), v[i]));
    sigmoid(s, rest, v, n);
    EACH (i, n) v[i] = vr_mul(s[i], vr_fma(v[i], rest[i], vr_set(1)));
}

/* Vectors of a group. */
INLINE int group(causal_conv1d_dtype dtype)
{
    return is_pair(dtype) ? GROUP / 2 : GROUP;
}

/* v[i] = silu(v[i]), or its derivative, for n <= group(dtype) vectors. */
INLINE void silu(vf *v, const int n, const causal_conv1d_dtype dtype, const bool derivative)
{
    const int parts = is_pair(dtype) ? 2 : 1;
    vr r[GROUP];
    EACH (i, n) {
        r[i * parts] = v[i].a;
        if (parts == 2) r[i * parts + 1] = v[i].b;
    }
    if (derivative)
        silu_derivative_group(r, n * parts);
    else
        silu_of(r, n * parts, dtype);
    EACH (i, n) v[i] = (vf){r[i * parts], parts == 2 ? r[i * parts + 1] : v[i].b};
}
