// 4.2: a variable at program scope is constant
// expect: program scope variable must reside in constant
#include <metal_stdlib>
using namespace metal;

float scale = 2.0f;
