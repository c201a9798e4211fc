// 5.2: a kernel's pointer is to device, constant or threadgroup memory
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

kernel void k(float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = 1.0f;
}
