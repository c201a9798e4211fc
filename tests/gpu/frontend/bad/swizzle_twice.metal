// 2.2.1: a component assigned twice
// expect: not assignable
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float2 v = x[i];
    v.xx = float2(1.0f);
    x[i] = v.x;
}
