// C++14: no variable-length arrays
// expect: variable length array
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v[i];
    v[0] = x[i];
    x[i] = v[0];
}
