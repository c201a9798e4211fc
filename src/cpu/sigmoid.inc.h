/* SiLU and its derivative over an ISA vocabulary, from e = exp(-v) = 2^n exp(r), n = round(-v/ln
 * 2), with ln 2 in two parts (Cody and Waite 1980) and exp(r) by the polynomial of
 * tools/exp_poly.py. Beyond |v| = 87, where e or 1/e would be denormal, silu is within 2e-36 of 0
 * or rounds to v. docs/numerics.md derives the error. */

/* sigmoid(v), and 1 - sigmoid(v) to *rest without a subtraction; |v| <= 87 or NaN. */
INLINE vr sigmoid(vr v, vr *rest)
{
    /* Added, it leaves no bits behind the point, and the exponent of 2^n as the low ones. */
    const float round = 0x1.8p23f + 127;
    vr magic = vr_fma(v, vr_set(-0x1.715476p0f), vr_set(round));
    vr n = vr_sub(magic, vr_set(round));
    vr r = vr_fma(n, vr_set(0x1.62e4p-1f), v); /* -r, and so the odd coefficients are negative */
    r = vr_fma(n, vr_set(0x1.7f7d1cp-20f), r);
    vr p = vr_fma(r, vr_set(-0x1.0fa834p-7f), vr_set(0x1.573a54p-5f));
    p = vr_fma(r, p, vr_set(-0x1.555a6ap-3f));
    p = vr_fma(r, p, vr_set(0x1.fffdc6p-2f));
    p = vr_fma(r, p, vr_set(-0x1.fffff6p-1f));
    p = vr_fma(r, p, vr_set(1));
    vr scale = vr_exponent(magic);
    vr s = vr_reciprocal(vr_fma(p, scale, vr_set(1)));
    *rest = vr_mul(vr_mul(p, scale), s);
    return s;
}

INLINE vr vr_silu(vr v)
{
    vr rest, above = vr_max(vr_set(-87), v);
    return vr_mul(above, sigmoid(vr_min(vr_set(87), above), &rest));
}

/* d silu(v) / dv = s (1 + v (1 - s)), s = sigmoid(v). */
INLINE vr vr_silu_derivative(vr v)
{
    vr c = vr_min(vr_set(87), vr_max(vr_set(-87), v));
    vr rest, s = sigmoid(c, &rest);
    return vr_mul(s, vr_fma(c, rest, vr_set(1)));
}

INLINE vf silu(vf v)
{
    return (vf){vr_silu(v.a), vr_silu(v.b)};
}

INLINE vf silu_derivative(vf v)
{
    return (vf){vr_silu_derivative(v.a), vr_silu_derivative(v.b)};
}
