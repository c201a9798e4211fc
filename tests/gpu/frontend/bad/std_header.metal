// 1.5.4: no C++ standard library
// expect: 'cmath' file not found
#include <metal_stdlib>
#include <cmath>
