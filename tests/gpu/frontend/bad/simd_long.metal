// 6.9.2: SIMD-group functions do not take 64-bit integers
// expect: ambiguous
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = float(simd_sum(long(i)));
}
