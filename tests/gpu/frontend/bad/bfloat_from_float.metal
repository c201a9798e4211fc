// 2.22: float does not convert to bfloat implicitly
// expect: bfloat
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    bfloat v = x[i];
    x[i] = float(v);
}
