// 4: nor by a cast
// expect: is not allowed
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    *reinterpret_cast<threadgroup float *>(x + i) = 1.0f;
}
