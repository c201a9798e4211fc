// 4: address spaces
#include <metal_stdlib>
using namespace metal;

struct Row {
    device const float *data;
    long stride;
};

typedef device float *Output;

static float first(thread const Row &row) { return row.data[0]; }

static device const float *next(device const float *p) { return p + 1; }

static void fill(thread float (&values)[4], float v)
{
    for (thread float &value : values) value = v;
}

template <typename T>
static T load(device const T *p)
{
    return *p;
}

kernel void k(device float *x [[buffer(0)]],
              constant float *y [[buffer(1)]],
              uint i [[thread_position_in_grid]])
{
    float values[4];
    Row row = {x, 1};
    fill(values, first(row) * y[0] + *next(x));
    thread float *p = values;
    device auto *q = reinterpret_cast<device uint *>(x);
    *q &= 0xffu;
    Output out = x;
    out[i] = p[0] * load(x + i) + *reinterpret_cast<thread float *>(&values[1]);
}
