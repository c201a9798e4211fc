// 5.2.3.6: thread_position_in_grid is of ushort or uint, of up to 3
// expect: is not valid for attribute
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              int i [[thread_position_in_grid]])
{
    x[i] = 1.0f;
}
