// 4: no conversion between address spaces
// expect: cannot initialize
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    thread float *p = x + i;
    *p = 1.0f;
}
