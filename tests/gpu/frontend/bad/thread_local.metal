// 1.5.4: no thread_local
// expect: 'thread_local'
#include <metal_stdlib>
using namespace metal;

static thread_local float v = 1.0f;
