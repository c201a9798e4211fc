// 4: so does a local pointer
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v = 1.0f, w;
    const float *p = &v;
    w = *p;
    x[i] = w;
}
