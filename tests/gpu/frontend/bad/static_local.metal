// observed of Apple's compiler: variables in function scope cannot be declared static
// expect: cannot be static
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    static int calls = 0;
    x[i] = float(calls);
}
