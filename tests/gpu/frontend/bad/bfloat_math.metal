// 6.5: mathematics of bfloat is that of float, whose result does not convert back
// expect: bfloat
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    bfloat v = bfloat(x[i]);
    bfloat w = metal::exp(v);
    x[i] = float(w);
}
