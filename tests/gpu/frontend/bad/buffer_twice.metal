// 5.2.1: each buffer index once
// expect: cannot reserve 'buffer' at index 0
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              device const float *y [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = y[i];
}
