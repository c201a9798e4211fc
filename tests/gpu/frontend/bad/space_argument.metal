// 4: nor for an argument
// expect: no matching function
#include <metal_stdlib>
using namespace metal;

static float first(device const float *p)
{
    return p[0];
}

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v[2] = {x[i], 1.0f};
    x[i] = first(v);
}
