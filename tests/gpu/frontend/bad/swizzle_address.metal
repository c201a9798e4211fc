// 2.2.1: no pointer to components
// expect: address of vector element
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float4 v = x[i];
    thread auto *p = &v.xy;
    x[i] = (*p).x;
}
