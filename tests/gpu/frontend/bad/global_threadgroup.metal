// 4.2: threadgroup memory is not at program scope
// expect: program scope variable must reside in constant
#include <metal_stdlib>
using namespace metal;

threadgroup float tile[32];
