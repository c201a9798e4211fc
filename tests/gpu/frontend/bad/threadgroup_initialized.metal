// 4.4: threadgroup variables have no initializer
// expect: with an initializer
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    threadgroup float v = 1.0f;
    x[i] = v;
}
