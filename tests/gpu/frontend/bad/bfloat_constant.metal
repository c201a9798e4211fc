// 2.22: nor does a float constant that bfloat holds exactly
// expect: bfloat
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    bfloat v = 0.5f;
    x[i] = float(v);
}
