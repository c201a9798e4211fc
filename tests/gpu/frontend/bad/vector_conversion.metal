// 2.2.2: vectors do not convert implicitly
// expect: cannot initialize
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    uint4 u = uint4(i);
    float4 f = u;
    x[i] = f.x;
}
