// 4: so does a reference of deduced type
// expect: reference type must have explicit address space
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v = 1.0f;
    auto &r = v;
    x[i] = r;
}
