// 2.21: as_type needs types of one size
// expect: as_type: types of different sizes
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = float(as_type<ushort>(x[i]));
}
