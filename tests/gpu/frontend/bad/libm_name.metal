// 6.5: no names of C's mathematics
// expect: undeclared identifier 'expf'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = expf(x[i]);
}
