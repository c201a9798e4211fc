// 1.5.4: a function as a value is a function pointer; here it is refused
// expect: 'half_of' is a value
#include <metal_stdlib>
using namespace metal;

static float half_of(float v)
{
    return 0.5f * v;
}

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    auto f = half_of;
    x[i] = f(x[i]);
}
