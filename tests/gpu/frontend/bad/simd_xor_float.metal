// 6.9.2: simd_xor is for integers
// expect: ambiguous
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = simd_xor(x[i]);
}
