// 1.5.4: no operator delete
// expect: 'delete': no dynamic memory
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]],
              uint i [[thread_position_in_grid]])
{
    float v = 1.0f;
    thread float *p = &v;
    delete p;
    x[i] = v;
}
