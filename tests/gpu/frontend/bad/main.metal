// 1.5.4: no function may be called main
// expect: 'main'
#include <metal_stdlib>
using namespace metal;

void main()
{
}
