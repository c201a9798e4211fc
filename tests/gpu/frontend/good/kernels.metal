// 5: kernels, their arguments and attributes
#include <metal_stdlib>
using namespace metal;

constant float scale = 2.0f;
constant constexpr int table[3] = {1, 2, 3};

static float sum(threadgroup const float *tile, int n)
{
    float total = 0.0f;
    for (int i = 0; i < n; i++) total += tile[i];
    return total;
}

kernel void plain(device const float *x [[buffer(0)]],
                  device float *out [[buffer(30)]],
                  constant long &n [[buffer(2)]],
                  threadgroup float *shared [[threadgroup(0)]],
                  uint3 position [[thread_position_in_grid]],
                  ushort lane [[thread_index_in_simdgroup]])
{
    threadgroup float tile[4][8];
    uint i = position.x;
    tile[i % 4][lane % 8] = scale * x[i];
    shared[0] = float(table[1]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (long(i) < n) out[i] = sum(tile[0], 8) + simd_sum(x[i]) + simd_shuffle_down(x[i], 1);
}

template <typename T>
[[kernel]] void copy(device const T *from [[buffer(0)]],
                     device T *to [[buffer(1)]],
                     uint i [[thread_position_in_grid]])
{
    to[i] = from[i];
}

template [[host_name("copy_half")]] kernel void copy<half>(device const half *, device half *, uint);
