// Uses what PyTorch's own Metal headers define: templates that the check would otherwise only parse.
#include <c10/metal/indexing.h>
#include <c10/metal/random.h>
#include <c10/metal/reduction_utils.h>
#include <c10/metal/special_math.h>
using namespace metal;

struct square_functor {
    template <typename T>
    T operator()(const T x)
    {
        return x * x;
    }
};

REGISTER_UNARY_OP(square, float, float);
REGISTER_UNARY_OP(square, half, half);
REGISTER_UNARY_OP(square, bfloat, bfloat);
REGISTER_UNARY_OP(square, int, int);

template <typename T>
static T reduce(threadgroup T *shared, threadgroup c10::metal::opmath_t<T> *sums, T v, uint i)
{
    v = c10::metal::threadgroup_max(shared, v, i, 64);
    v = c10::metal::threadgroup_min(shared, v, i, 64);
    return v + T(c10::metal::threadgroup_sum(sums, v, i, 64) + c10::metal::threadgroup_prod(sums, v, i, 64));
}

kernel void use(device float *x [[buffer(0)]],
                device half *y [[buffer(1)]],
                device bfloat *z [[buffer(2)]],
                device long *n [[buffer(3)]],
                uint i [[thread_position_in_grid]])
{
    threadgroup float floats[32], sums[32];
    threadgroup half halves[32];
    threadgroup long longs[32];
    x[i] = reduce(floats, sums, x[i], i);
    y[i] = reduce(halves, sums, y[i], i);
    n[i] = reduce(longs, longs, n[i], i);
    auto best = c10::metal::simd_argmax(x[i], int(i));
    x[i] = best.first + c10::metal::randn(1, best.second);
    x[i] += c10::metal::erf(x[i]) + c10::metal::hypot(x[i], 1.0f);
    z[i] = c10::metal::max(z[i], c10::metal::cast_to<bfloat>(x[i]));
    n[i] = c10::metal::floor_divide(c10::metal::randint64(1, long(i), 0, 9), n[i]);
    float2 c = c10::metal::mul(float2(x[i], 1.0f), c10::metal::box_muller_from_philox(uint2(i, 1)));
    c = c10::metal::simd_prod(c10::metal::pow(c, c));
    x[i] = c.x + c10::metal::digamma(c.y);
}
