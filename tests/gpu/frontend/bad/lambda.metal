// 1.5.4: no lambda expressions (before MSL 3.2)
// expect: lambda
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    auto twice = [](float v) { return 2.0f * v; };
    x[i] = twice(x[i]);
}
