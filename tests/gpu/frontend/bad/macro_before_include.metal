// ours: Apple's headers may use any name of ours, so they come first
// expect: macro 'ID' before <metal_stdlib>
#define ID int
#include <metal_stdlib>
using namespace metal;

kernel void k(device ID *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = 1;
}
