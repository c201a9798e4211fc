// 4.2: a constant's initializer is constant
// expect: global constructor
#include <metal_stdlib>
using namespace metal;

constant float scale = exp(1.0f);
