// 1.5.4: no C++ standard library
// expect: 'std': no C++ standard library
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = std::exp(x[i]);
}
