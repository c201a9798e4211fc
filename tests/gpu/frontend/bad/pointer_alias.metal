// 4: so does a name for a type
// expect: pointer type must have explicit address space
#include <metal_stdlib>
using namespace metal;

typedef float *Row;
