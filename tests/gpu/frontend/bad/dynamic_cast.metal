// 1.5.4: no dynamic_cast
// expect: 'dynamic_cast'
#include <metal_stdlib>
using namespace metal;

struct S {
    int a;
};

static int f(thread S *s)
{
    return dynamic_cast<thread S *>(s)->a;
}
