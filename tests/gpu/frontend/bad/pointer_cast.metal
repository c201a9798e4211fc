// 4: so does the type of a cast
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v = 1.0f;
    x[i] = *reinterpret_cast<float *>(&v);
}
