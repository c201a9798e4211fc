// 4: every pointer names its address space
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

static float first(float *p)
{
    return p[0];
}
