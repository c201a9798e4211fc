// 4: every reference names its address space
// expect: reference type must have explicit address space
#include <metal_stdlib>
using namespace metal;

static float twice(const float &v)
{
    return 2.0f * v;
}
