// 1.5.4: recursion through another function; here it is refused
// expect: no recursion
#include <metal_stdlib>
using namespace metal;

static float odd(int n);

static float even(int n)
{
    return n ? odd(n - 1) : 1.0f;
}

static float odd(int n)
{
    return n ? even(n - 1) : 0.0f;
}

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = even(int(i));
}
