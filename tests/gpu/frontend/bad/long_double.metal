// 2.1: nor is long double
// expect: 'double'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    long double v = x[i];
    x[i] = float(v);
}
