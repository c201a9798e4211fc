// 4.2: constant memory is read only
// expect: read-only variable is not assignable
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              constant uint *count [[buffer(1)]],
              uint i [[thread_position_in_grid]])
{
    count[0] = i;
    x[i] = 0.0f;
}
