// 2.2.2: a vector constructor with too many components
// expect: wrong number of components
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float4 f = float4(float3(x[i]), 1.0f, 2.0f);
    x[i] = f.x;
}
