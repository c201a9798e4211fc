// 1.5.4: no exception handling
// expect: no exceptions
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    if (i > 3) throw 1;
    x[i] = 0.0f;
}
