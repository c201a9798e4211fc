// 5.2: a kernel's arguments say what they are
// expect: no attribute
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint n,
              uint i [[thread_position_in_grid]])
{
    x[i] = float(n);
}
