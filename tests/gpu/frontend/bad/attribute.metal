// 5.2: an attribute that MSL does not have
// expect: unknown attribute 'thread_id'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_id]])
{
    x[i] = 1.0f;
}
