// 1.5.4: no typeid
// expect: 'typeid'
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    x[i] = float(sizeof(typeid(float)));
}
