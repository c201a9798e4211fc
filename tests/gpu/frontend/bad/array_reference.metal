// 4: so does a reference to an array
// expect: reference type must have explicit address space
#include <metal_stdlib>
using namespace metal;

static float last(const float (&v)[4])
{
    return v[3];
}
