// 5.2: not to thread memory
// expect: device or constant
#include <metal_stdlib>
using namespace metal;

kernel void k(thread float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = 1.0f;
}
