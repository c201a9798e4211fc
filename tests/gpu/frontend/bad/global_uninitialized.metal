// 4.2: a constant is initialized
// expect: must be initialized
#include <metal_stdlib>
using namespace metal;

constant float scale;
