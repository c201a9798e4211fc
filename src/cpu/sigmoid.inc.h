/* SiLU and its derivative over an ISA vocabulary.
 *
 * With t = exp(-|v|) the larger of sigmoid(v) and sigmoid(-v) is 1/(1+t), the smaller t/(1+t):
 * nothing overflows, and neither comes from a subtraction.  t = 2^n exp(r), n = round(-|v|/ln 2),
 * ln 2 in two parts (Cody and Waite 1980), exp(r) by the polynomial of tools/exp_poly.py.
 * Below v = -87 t would be denormal and counts as 0.  docs/numerics.md derives the error. */

/* sigmoid(v); 1 - sigmoid(v) = sigmoid(-v) goes to *rest. */
INLINE vf sigmoid(vf v, vf *rest)
{
    const float low = -87.0f;
    vf a = vf_neg_abs(v), u = vf_at_least(a, low);
    vf magic = vf_fma(u, vf_set(0x1.715476p0f), vf_set(0x1.8p23f));
    vf n = vf_sub(magic, vf_set(0x1.8p23f));
    vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), u);
    r = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_fma(r, vf_set(0x1.0fa834p-7f), vf_set(0x1.573a54p-5f));
    p = vf_fma(r, p, vf_set(0x1.555a6ap-3f));
    p = vf_fma(r, p, vf_set(0x1.fffdc6p-2f));
    p = vf_fma(r, p, vf_set(0x1.fffff6p-1f));
    p = vf_fma(r, p, vf_set(1));
    vf t = vf_scale(p, magic, a, low);
    vf larger = vf_reciprocal(vf_add(t, vf_set(1))), smaller = vf_mul(t, larger);
    *rest = vf_where_negative(v, larger, smaller);
    return vf_where_negative(v, smaller, larger);
}

INLINE vf silu(vf v)
{
    vf rest;
    return vf_mul(v, sigmoid(v, &rest));
}

/* d silu(v) / dv = s (1 + v (1 - s)), s = sigmoid(v). */
INLINE vf silu_derivative(vf v)
{
    vf rest, s = sigmoid(v, &rest);
    return vf_mul(s, vf_fma(v, rest, vf_set(1)));
}
