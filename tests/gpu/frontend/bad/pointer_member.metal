// 4: so does a member
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

struct Row {
    const float *data;
};
