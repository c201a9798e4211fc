// 1.5.4: no virtual functions
// expect: no virtual functions
#include <metal_stdlib>
using namespace metal;

struct Shape {
    virtual float area() const { return 1.0f; }
};
