// 6.9.1: threadgroup_barrier is the name
// expect: undeclared identifier 'barrier'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    barrier(mem_flags::mem_threadgroup);
    x[i] = 1.0f;
}
