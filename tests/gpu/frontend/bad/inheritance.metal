// 1.5.4: no derived classes
// expect: no derived classes
#include <metal_stdlib>
using namespace metal;

struct Base {
    float a;
};

struct Derived : Base {
    float b;
};
