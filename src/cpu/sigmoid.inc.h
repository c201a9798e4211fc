/* SiLU and its derivative over an ISA vocabulary, from e = exp(-v) = 2^n exp(r), n = round(-v/ln
 * 2), with ln 2 in two parts (Cody and Waite 1980) and exp(r) by the polynomial of
 * tools/exp_poly.py. Beyond |v| = 87, where e or 1/e would be denormal, silu is within 2e-36 of 0
 * or rounds to v. docs/numerics.md derives the error. */

/* sigmoid(v), and 1 - sigmoid(v) to *rest without a subtraction; |v| <= 87 or NaN. */
INLINE vf sigmoid(vf v, vf *rest)
{
    const float round = 0x1.8p23f; /* added, it leaves no bits behind the point */
    vf magic = vf_fma(v, vf_set(-0x1.715476p0f), vf_set(round));
    vf n = vf_sub(magic, vf_set(round));
    vf r = vf_fma(n, vf_set(0x1.62e4p-1f), v); /* -r, and so the odd coefficients are negative */
    r = vf_fma(n, vf_set(0x1.7f7d1cp-20f), r);
    vf p = vf_fma(r, vf_set(-0x1.0fa834p-7f), vf_set(0x1.573a54p-5f));
    p = vf_fma(r, p, vf_set(-0x1.555a6ap-3f));
    p = vf_fma(r, p, vf_set(0x1.fffdc6p-2f));
    p = vf_fma(r, p, vf_set(-0x1.fffff6p-1f));
    p = vf_fma(r, p, vf_set(1));
    vf e = vf_scale(p, magic, n);
    vf s = vf_reciprocal(vf_add(e, vf_set(1)));
    *rest = vf_mul(e, s);
    return s;
}

INLINE vf silu(vf v)
{
    vf rest, above = vf_max(vf_set(-87), v);
    return vf_mul(above, sigmoid(vf_min(vf_set(87), above), &rest));
}

/* d silu(v) / dv = s (1 + v (1 - s)), s = sigmoid(v). */
INLINE vf silu_derivative(vf v)
{
    vf c = vf_min(vf_set(87), vf_max(vf_set(-87), v));
    vf rest, s = sigmoid(c, &rest);
    return vf_mul(s, vf_fma(c, rest, vf_set(1)));
}
