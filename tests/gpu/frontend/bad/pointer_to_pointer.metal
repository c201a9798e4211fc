// 4: each of two pointers names its address space
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

static float first(device float **p)
{
    return **p;
}
