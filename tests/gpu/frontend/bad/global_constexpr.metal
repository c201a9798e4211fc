// 4.2: constexpr is not enough
// expect: program scope variable must reside in constant
#include <metal_stdlib>
using namespace metal;

constexpr float scale = 2.0f;
