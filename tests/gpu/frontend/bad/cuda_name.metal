// 6.9.1: no names of other languages
// expect: undeclared identifier '__syncthreads'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    __syncthreads();
    x[i] = 1.0f;
}
