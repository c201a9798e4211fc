// 2.1: long long is no type of MSL
// expect: 'long long'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    long long v = i;
    x[i] = float(v);
}
