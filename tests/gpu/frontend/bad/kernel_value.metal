// 5.2: a number is passed by reference to constant memory
// expect: device or constant
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              int n [[buffer(1)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = float(n);
}
