// 6.9.1: a barrier takes mem_flags, not a number
// expect: no matching function
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    threadgroup_barrier(1);
    x[i] = 1.0f;
}
