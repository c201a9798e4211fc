// observed of Apple's compiler: unions are not supported in Metal
// expect: no unions
#include <metal_stdlib>
using namespace metal;

union Bits {
    float f;
    uint u;
};
