// 4: a local variable is in thread or threadgroup memory
// expect: automatic variable qualified
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    device float v = x[i];
    x[i] = v;
}
