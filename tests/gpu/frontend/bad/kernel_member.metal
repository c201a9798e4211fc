// 5.1: a kernel is no member function
// expect: member function
#include <metal_stdlib>
using namespace metal;

struct S {
    kernel void k(device float *x [[buffer(0)]]) { x[0] = 1.0f; }
};
