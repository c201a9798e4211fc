// 1.5.4: no noexcept
// expect: no noexcept
#include <metal_stdlib>
using namespace metal;

static float f(float v) noexcept
{
    return v;
}
