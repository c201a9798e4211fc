// 1.5.4: no register
// expect: 'register'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    register float v = x[i];
    x[i] = v + 1.0f;
}
