// 4.4: threadgroup variables are declared in kernels
// expect: outside of a kernel
#include <metal_stdlib>
using namespace metal;

static float f(float v)
{
    threadgroup float tile[32];
    tile[0] = v;
    return tile[0];
}
