// 4: so does a function's result
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

static const float *next(device const float *p);
