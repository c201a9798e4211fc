// 1.5.4: function pointers are for MSL 2.3 and later, in tables; here they are refused
// expect: no function pointers
#include <metal_stdlib>
using namespace metal;

static float half_of(float v)
{
    return 0.5f * v;
}

static float apply(float (*f)(float), float v)
{
    return f(v);
}

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = apply(half_of, x[i]);
}
