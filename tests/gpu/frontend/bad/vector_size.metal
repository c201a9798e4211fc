// 2.2: vectors have 2, 3 or 4 components
// expect: vector
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    vec<float, 8> v = x[i];
    x[i] = v.x;
}
