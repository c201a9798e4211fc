// 5.2.3.6: thread_index_in_simdgroup is a scalar
// expect: is not valid for attribute
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint2 i [[thread_index_in_simdgroup]])
{
    x[i.x] = 1.0f;
}
