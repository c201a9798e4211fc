// 1.5.4: no goto
// expect: no goto
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    again:
        x[i] += 1.0f;
        if (x[i] < 9.0f) goto again;
}
