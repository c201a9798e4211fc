// 4: so does the second variable of a declaration
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v = x[i], *p = &v;
    x[i] = *p;
}
