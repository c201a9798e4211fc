// 2.1: a literal of a type that MSL does not have
// expect: '1ull': MSL has no such literal
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = float(1ull << i);
}
