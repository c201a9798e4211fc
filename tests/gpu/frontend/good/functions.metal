// 1.5.4, 6: what looks like a fault and is none
#include <metal_stdlib>
using namespace metal;

template <typename T>
static float total(T v)
{
    return float(v);
}

template <typename T, typename... Rest>
static float total(T v, Rest... rest)
{
    return float(v) + total(rest...);
}

struct Twice {
    Twice() = default;
    float operator()(float v) const { return 2.0f * v; }
    float operator*(float v) const { return v; }
};

template <typename F>
static float apply(F f, float v)
{
    return f(v);
}

kernel void k(device float *x [[buffer(0)]], uint i [[thread_position_in_grid]])
{
    float v = total(1, 2.0f, 3u), rest;
    v += apply(Twice(), v) * precise::exp(-v) + fma(v, v, 1.0f);
    float both[2] = {v * v, precise::sincos(v, rest)};
    switch (i & 3) {
    case 1: v = both[0]; break;
    default: v = select(both[1], rest, isnan(v));
    }
    for (uint n = 0; n & 7; n++) v = max(v, float(min(n, 3u)));
    v += simd_shuffle_xor(v, 1);
    x[i] = simd_any(v > 1.0f) && popcount(i) ? v : clamp(v, -1.0f, 1.0f);
}
