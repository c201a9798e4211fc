// SiLU and its gradient.

// sigmoid(v), and 1 - sigmoid(v) without a subtraction; -87 <= v <= 87, beyond which exp or the
// reciprocal would leave the normal numbers.
inline float sigmoid(float v, thread float &rest)
{
    float e = precise::exp(-v);
    float s = fast::divide(1.0f, 1.0f + e);
    rest = e * s;
    return s;
}

inline float activation(float v)
{
#if SILU
    float rest, above = v < -87.0f ? -87.0f : v; // a NaN stays one
    return above * sigmoid(above > 87.0f ? 87.0f : above, rest);
#else
    return v;
#endif
}

// g = dout * act'(v); silu'(v) = s (1 + v (1 - s)), s = sigmoid(v).
inline float activation_gradient(float dout, float v)
{
#if SILU
    float rest, held = v < -87.0f ? -87.0f : v > 87.0f ? 87.0f : v;
    float s = sigmoid(held, rest);
    return dout * (s * fma(held, rest, 1.0f));
#else
    return dout;
#endif
}
