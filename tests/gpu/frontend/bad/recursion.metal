// 1.5.4: recursion is for MSL 2.4 and later, in compute alone; here it is refused
// expect: no recursion: 'sum'
#include <metal_stdlib>
using namespace metal;

static float sum(int n)
{
    return n ? float(n) + sum(n - 1) : 0.0f;
}

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = sum(int(i));
}
