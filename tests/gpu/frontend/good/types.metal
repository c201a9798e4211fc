// 2: sizes, vectors, constructors, conversions, literals
#include <metal_stdlib>
using namespace metal;

static_assert(sizeof(long) == 8 && sizeof(size_t) == 8 && sizeof(half) == 2 && sizeof(bfloat) == 2, "");
static_assert(sizeof(float2) == 8 && sizeof(float3) == 16 && sizeof(half3) == 8, "");
static_assert(alignof(float4) == 16 && alignof(bfloat4) == 8 && alignof(char3) == 4, "");
static_assert(is_same_v<decltype(0.5h), half> && is_same_v<decltype(0.5bf), bfloat>, "");
static_assert(is_same_v<decltype(1.0h * 1.0f), float> && is_same_v<decltype(1.0bf * 1.0f), float>, "");
static_assert(is_same_v<decltype(1.0bf * 1.0bf), bfloat>, "");
constant float4 ramp = float4(0, 1, 2, 3);

template <typename T>
static T two(float a, float b)
{
    return T(a, b);
}

kernel void k(device uint4 *words [[buffer(0)]],
              device bfloat *x [[buffer(1)]],
              uint i [[thread_position_in_grid]])
{
    float4 v = float4(as_type<half4>(words[i].xy));
    half4 h = half4(v.wzyx) + half(0.5f);
    float3 t = float3(v.xy, 1.0f);
    v = vec<float, 4>(h) + float4(t, 1.0) + ramp + v.x;
    words[i] = as_type<uint4>(v + two<float2>(1.0f, 2.0f).xyxy);
    half narrow = v.x;
    x[i] = bfloat(v.y + float(narrow) * x[i]);
}
