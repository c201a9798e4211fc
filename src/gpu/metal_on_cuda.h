// The words of the Metal shading language that causal_conv1d.metal uses, in CUDA: NVRTC compiles
// this text, the preamble, the shader and KERNEL_ENTRY as one.  Its option -default-device makes
// device code of every function.
#define METAL_ON_CUDA
#define kernel static inline
#define device
#define constant const
#define thread
#define threadgroup __shared__
#define float2 metal_float2 // CUDA's own have no constructors
#define uint3 metal_uint3
#pragma nv_diag_suppress unrecognized_attribute

typedef long long metal_long; // 64 bits, on Windows too, and one word
#define long metal_long
typedef unsigned int uint;
typedef unsigned short ushort;

struct float2 {
    float x, y;
    float2(float a, float b) : x(a), y(b)
    {
    }
};
struct uint3 {
    uint x, y, z;
};

// Rounded to nearest even, as Metal's conversions.
struct half {
    ushort bits;
    half() = default;
    explicit half(float f)
    {
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    }
    explicit operator float() const
    {
        float f;
        asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
        return f;
    }
};
struct bfloat {
    ushort bits;
    bfloat() = default;
    explicit bfloat(float f)
    {
#if __CUDA_ARCH__ >= 900
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
#else
        uint word = __float_as_uint(f);
        bits = f != f ? 0x7fff : ushort((word + 0x7fff + (word >> 16 & 1)) >> 16);
#endif
    }
    explicit operator float() const
    {
        return __uint_as_float(uint(bits) << 16);
    }
};

template <typename T, int N> struct alignas(N * sizeof(T)) vec {
    T element[N];
    T &operator[](int i)
    {
        return element[i];
    }
};
// Two 16-bit values.
template <typename T> struct alignas(4) vec<T, 2> {
    T element[2];
    vec() = default;
    explicit vec(float2 pair) : element{T(pair.x), T(pair.y)}
    {
    }
    explicit operator float2() const
    {
        return float2(float(element[0]), float(element[1]));
    }
};
template <> struct alignas(8) vec<uint, 2> {
    uint element[2];
    uint &operator[](int i)
    {
        return element[i];
    }
};
// One instruction for each value: two by way of bfloat.
template <> inline vec<bfloat, 2>::operator float2() const
{
    uint word = *(const uint *)element;
    return float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000));
}
#if __CUDA_ARCH__ >= 800
template <> inline vec<bfloat, 2>::vec(float2 pair)
{
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(*(uint *)element) : "f"(pair.y), "f"(pair.x));
}
template <> inline vec<half, 2>::vec(float2 pair)
{
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(*(uint *)element) : "f"(pair.y), "f"(pair.x));
}
#endif

template <typename To, typename From> To as_type(From from)
{
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

namespace metal
{
enum class mem_flags { mem_threadgroup };
inline void threadgroup_barrier(mem_flags)
{
    __syncthreads();
}
inline void simdgroup_barrier(mem_flags)
{
    __syncwarp();
}
inline float simd_shuffle(float value, ushort lane)
{
    return __shfl_sync(~0u, value, lane);
}
namespace precise
{
// e^v = 2^t e^rest for -88 <= v <= 88, where t is v / ln 2 but for its rounding: three operations
// less than expf, which bounds the speed where there is SiLU.
inline float exp(float v)
{
    float t = v * 1.44269504f, power;
    float rest = fmaf(t, 1.90465421e-9f, fmaf(t, -0.693147182f, v)); // v - t ln 2
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(t));
    return fmaf(power, rest, power);
}
} // namespace precise
namespace fast
{
inline float divide(float a, float b)
{
    float reciprocal; // of a normal number: __fdividef would care for others too
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
    return a * reciprocal;
}
} // namespace fast
} // namespace metal

// What a kernel is called with: its argument slots, each a pointer or a number, and the position of
// the grid's first thread.
struct Arguments {
    long slot[CC1D_SLOTS];
    uint origin[3];
};

// The argument of type T in slot i; the position stands behind the last slot.
template <typename T> struct Argument;
template <typename T> struct Argument<T *> {
    static T *at(const Arguments &a, int i, uint3)
    {
        return (T *)a.slot[i];
    }
};
template <> struct Argument<const long &> {
    static const long &at(const Arguments &a, int i, uint3)
    {
        return a.slot[i];
    }
};
template <> struct Argument<uint3> {
    static uint3 at(const Arguments &, int, uint3 position)
    {
        return position;
    }
};

template <int... I> struct Indices {
};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {
};
template <int... I> struct Count<0, I...> : Indices<I...> {
};

template <typename Function, Function function> struct Kernel;
template <typename... P, void (*function)(P...)> struct Kernel<void (*)(P...), function> {
    template <int... I> static void call(const Arguments &a, uint3 position, Indices<I...>)
    {
        function(Argument<P>::at(a, I, position)...);
    }
    static void call(const Arguments &a, uint3 position)
    {
        call(a, position, Count<sizeof...(P)>());
    }
};

#define KERNEL_ENTRY(name)                                                            \
    extern "C" __global__ void __launch_bounds__(CC1D_GROUP)                          \
        entry(const __grid_constant__ Arguments a)                                    \
    {                                                                                 \
        const uint3 position = {a.origin[0] + blockIdx.x * blockDim.x + threadIdx.x,  \
                                a.origin[1] + blockIdx.y * blockDim.y + threadIdx.y,  \
                                a.origin[2] + blockIdx.z * blockDim.z + threadIdx.z}; \
        Kernel<decltype(&name), name>::call(a, position);                             \
    }
