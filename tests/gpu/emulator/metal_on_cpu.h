// The Metal Shading Language, as far as our shaders use it, in C++20: behind this prelude the
// unmodified .metal text compiles as C++ and runs on the threads of threadgroup.cpp.
//
// No standard header: one would cost more time per variant than the shader itself, and the
// address spaces below are macros with everyday names.
//
// Limits.  `threadgroup` declares arrays in kernel bodies, not parameters (they are static, in a
// section of their own).  A SIMD function or a barrier is named by its line: two on one line are
// one.
#pragma once
#include "emulator.h"

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using size_t = decltype(sizeof 0);
using ptrdiff_t = decltype((char *)0 - (char *)0);
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = uchar;
using uint16_t = ushort;
using uint32_t = uint;
using uint64_t = ulong;
static_assert(sizeof(long) == 8, "MSL's long has 64 bits");

extern "C" [[gnu::visibility("default")]] const emulator::Runtime *emulator_runtime = nullptr;

template <typename To, typename From> constexpr To as_type(From value)
{
    return __builtin_bit_cast(To, value);
}

// half and bfloat: arithmetic in float, which rounded once more to 11 or 8 bits is exact (24 bits
// are more than twice as many), rounded to nearest even, subnormals kept.
template <int Exponent, int Mantissa> struct SmallFloat {
    ushort bits;

    SmallFloat() = default;
    constexpr SmallFloat(float value) : bits(rounded(value))
    {
    }
    constexpr operator float() const
    {
        const uint sign = uint(bits >> 15) << 31, magnitude = bits & 0x7fffu;
        if (magnitude >> Mantissa == (1u << Exponent) - 1) // infinity, NaN
            return as_type<float>(sign | 0x7f800000u | magnitude << (23 - Mantissa));
        if constexpr (Exponent == 8) return as_type<float>(sign | magnitude << (23 - Mantissa));
        // The exponent's bias is mended by a multiplication, which is exact.
        const float scale = as_type<float>(uint(254 - bias) << 23);
        return as_type<float>(sign |
                              as_type<uint>(as_type<float>(magnitude << (23 - Mantissa)) * scale));
    }
    SmallFloat &operator+=(float other)
    {
        return *this = SmallFloat(float(*this) + other);
    }
    SmallFloat &operator-=(float other)
    {
        return *this = SmallFloat(float(*this) - other);
    }
    SmallFloat &operator*=(float other)
    {
        return *this = SmallFloat(float(*this) * other);
    }
    SmallFloat &operator/=(float other)
    {
        return *this = SmallFloat(float(*this) / other);
    }
    constexpr SmallFloat operator-() const
    {
        return as_type<SmallFloat>(ushort(bits ^ 0x8000));
    }

  private:
    static constexpr int bias = (1 << (Exponent - 1)) - 1, dropped = 23 - Mantissa;
    static constexpr ushort rounded(float value)
    {
        const uint word = as_type<uint>(value), magnitude = word & 0x7fffffffu;
        const uint sign = word >> 31 << 15, infinity = ((1u << Exponent) - 1) << Mantissa;
        if (magnitude > 0x7f800000u) return ushort(sign | infinity | 1u << (Mantissa - 1));
        // Added to this power of two, a value below the normal range keeps just the right bits.
        const uint smallest = uint(127 - bias + 1) << 23;
        if (Exponent < 8 && magnitude < smallest) {
            const uint magic = smallest + (uint(dropped) << 23);
            return ushort(
                sign | (as_type<uint>(as_type<float>(magnitude) + as_type<float>(magic)) - magic));
        }
        const uint half_up = (1u << (dropped - 1)) - 1 + (magnitude >> dropped & 1);
        const uint small = (magnitude + half_up - (uint(127 - bias) << 23)) >> dropped;
        return ushort(sign | (small < infinity ? small : infinity));
    }
};
using half = SmallFloat<5, 10>;
using bfloat = SmallFloat<8, 7>;

// Two of one type stay in it; with anything else they are floats.
#define EMULATOR_ARITHMETIC(op)                                                    \
    template <int E, int M>                                                        \
    constexpr SmallFloat<E, M> operator op(SmallFloat<E, M> a, SmallFloat<E, M> b) \
    {                                                                              \
        return SmallFloat<E, M>(float(a) op float(b));                             \
    }
EMULATOR_ARITHMETIC(+)
EMULATOR_ARITHMETIC(-)
EMULATOR_ARITHMETIC(*)
EMULATOR_ARITHMETIC(/)
#undef EMULATOR_ARITHMETIC

namespace metal
{

template <typename T, int N> struct vec;
template <typename T> struct alignas(2 * sizeof(T)) vec<T, 2> {
    union {
        T elements[2];
        struct {
            T x, y;
        };
    };
    vec() = default;
    constexpr vec(T s) : elements{s, s}
    {
    }
    constexpr vec(T x, T y) : elements{x, y}
    {
    }
    template <typename U> constexpr explicit vec(vec<U, 2> v) : elements{T(v[0]), T(v[1])}
    {
    }
    constexpr T &operator[](int i)
    {
        return elements[i];
    }
    constexpr const T &operator[](int i) const
    {
        return elements[i];
    }
};
template <typename T> struct alignas(4 * sizeof(T)) vec<T, 3> {
    union {
        T elements[3];
        struct {
            T x, y, z;
        };
    };
    vec() = default;
    constexpr vec(T s) : elements{s, s, s}
    {
    }
    constexpr vec(T x, T y, T z) : elements{x, y, z}
    {
    }
    template <typename U> constexpr explicit vec(vec<U, 3> v) : elements{T(v[0]), T(v[1]), T(v[2])}
    {
    }
    constexpr T &operator[](int i)
    {
        return elements[i];
    }
    constexpr const T &operator[](int i) const
    {
        return elements[i];
    }
};
template <typename T> struct alignas(4 * sizeof(T)) vec<T, 4> {
    union {
        T elements[4];
        struct {
            T x, y, z, w;
        };
    };
    vec() = default;
    constexpr vec(T s) : elements{s, s, s, s}
    {
    }
    constexpr vec(T x, T y, T z, T w) : elements{x, y, z, w}
    {
    }
    template <typename U>
    constexpr explicit vec(vec<U, 4> v) : elements{T(v[0]), T(v[1]), T(v[2]), T(v[3])}
    {
    }
    constexpr T &operator[](int i)
    {
        return elements[i];
    }
    constexpr const T &operator[](int i) const
    {
        return elements[i];
    }
};

#define EMULATOR_ELEMENTWISE(op)                                                           \
    template <typename T, int N> constexpr vec<T, N> operator op(vec<T, N> a, vec<T, N> b) \
    {                                                                                      \
        for (int i = 0; i < N; i++) a[i] = a[i] op b[i];                                   \
        return a;                                                                          \
    }                                                                                      \
    template <typename T, int N> constexpr vec<T, N> operator op(vec<T, N> a, T b)         \
    {                                                                                      \
        return a op vec<T, N>(b);                                                          \
    }                                                                                      \
    template <typename T, int N> constexpr vec<T, N> operator op(T a, vec<T, N> b)         \
    {                                                                                      \
        return vec<T, N>(a) op b;                                                          \
    }                                                                                      \
    template <typename T, int N, typename U>                                               \
    constexpr vec<T, N> &operator op## = (vec<T, N> & a, U b)                              \
    {                                                                                      \
        return a = a op b;                                                                 \
    }
EMULATOR_ELEMENTWISE(+)
EMULATOR_ELEMENTWISE(-)
EMULATOR_ELEMENTWISE(*)
EMULATOR_ELEMENTWISE(/)
EMULATOR_ELEMENTWISE(&)
EMULATOR_ELEMENTWISE(|)
EMULATOR_ELEMENTWISE(^)
#undef EMULATOR_ELEMENTWISE

} // namespace metal

#define EMULATOR_VECTORS(T)        \
    using T##2 = metal::vec<T, 2>; \
    using T##3 = metal::vec<T, 3>; \
    using T##4 = metal::vec<T, 4>;
EMULATOR_VECTORS(float)
EMULATOR_VECTORS(half)
EMULATOR_VECTORS(bfloat)
EMULATOR_VECTORS(char)
EMULATOR_VECTORS(uchar)
EMULATOR_VECTORS(short)
EMULATOR_VECTORS(ushort)
EMULATOR_VECTORS(int)
EMULATOR_VECTORS(uint)
EMULATOR_VECTORS(long)
EMULATOR_VECTORS(ulong)
#undef EMULATOR_VECTORS
static_assert(sizeof(uint3) == 16 && sizeof(half4) == 8 && alignof(float4) == 16);

namespace metal
{

template <typename T> constexpr T min(T a, T b)
{
    return b < a ? b : a;
}
template <typename T> constexpr T max(T a, T b)
{
    return a < b ? b : a;
}
inline float min(float a, float b)
{
    return __builtin_fminf(a, b);
}
inline float max(float a, float b)
{
    return __builtin_fmaxf(a, b);
}
template <typename T> constexpr T abs(T a)
{
    return a < 0 ? T(-a) : a;
}
inline float abs(float a)
{
    return __builtin_fabsf(a);
}
template <typename T> constexpr T clamp(T a, T low, T high)
{
    return min(max(a, low), high);
}
template <typename T> constexpr T select(T a, T b, bool c)
{
    return c ? b : a;
}

inline float fma(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}
template <int N> constexpr vec<float, N> fma(vec<float, N> a, vec<float, N> b, vec<float, N> c)
{
    for (int i = 0; i < N; i++) c[i] = fma(a[i], b[i], c[i]);
    return c;
}

inline bool isnan(float a)
{
    return __builtin_isnan(a);
}
inline bool isinf(float a)
{
    return __builtin_isinf(a);
}
inline bool isfinite(float a)
{
    return __builtin_isfinite(a);
}

namespace precise
{
inline float exp(float a)
{
    return __builtin_expf(a);
}
inline float log(float a)
{
    return __builtin_logf(a);
}
inline float sqrt(float a)
{
    return __builtin_sqrtf(a);
}
inline float rsqrt(float a)
{
    return 1 / __builtin_sqrtf(a);
}
inline float tanh(float a)
{
    return __builtin_tanhf(a);
}
inline float divide(float a, float b)
{
    return a / b;
}
} // namespace precise
namespace fast = precise;
using namespace precise;

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
constexpr mem_flags operator|(mem_flags a, mem_flags b)
{
    return mem_flags(int(a) | int(b));
}

inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE())
{
    emulator_runtime->barrier("threadgroup_barrier", line, flags != mem_flags::mem_none);
}

// SIMD functions: all lanes that have not returned must come to the same one.
namespace emulated
{

template <typename T> emulator::Lanes exchange(const char *function, int line, T value)
{
    static_assert(sizeof(T) <= sizeof(emulator::Value));
    return emulator_runtime->exchange(function, line, &value, sizeof value);
}

template <typename T>
T value_of(const char *function, int line, const emulator::Lanes &lanes, uint lane)
{
    if (lane >= emulator::simd_width || !(lanes.active >> lane & 1))
        emulator_runtime->fail(function, line, "reads the value of a lane that is not there");
    T value;
    __builtin_memcpy(&value, lanes.values[lane], sizeof value);
    return value;
}

template <typename T, typename Combine>
T reduce(const char *function, int line, T value, Combine combine)
{
    const emulator::Lanes lanes = exchange(function, line, value);
    bool first = true;
    for (uint lane = 0; lane < emulator::simd_width; lane++) {
        if (!(lanes.active >> lane & 1)) continue;
        const T next = value_of<T>(function, line, lanes, lane);
        value = first ? next : combine(value, next);
        first = false;
    }
    return value;
}

} // namespace emulated

#define EMULATOR_SHUFFLE(name, type, argument, source)                                \
    template <typename T> T name(T value, type argument, int line = __builtin_LINE()) \
    {                                                                                 \
        const emulator::Lanes lanes = emulated::exchange(#name, line, value);         \
        const uint self = lanes.self;                                                 \
        return emulated::value_of<T>(#name, line, lanes, source);                     \
    }
EMULATOR_SHUFFLE(simd_shuffle, ushort, lane, ((void)self, lane))
EMULATOR_SHUFFLE(simd_broadcast, ushort, lane, ((void)self, lane))
EMULATOR_SHUFFLE(simd_shuffle_xor, ushort, mask, self ^ mask)
// Past either end of the 32 lanes a lane keeps its own value.
EMULATOR_SHUFFLE(simd_shuffle_up, ushort, delta, self < delta ? self : self - delta)
EMULATOR_SHUFFLE(simd_shuffle_down, ushort, delta,
                 self + delta < emulator::simd_width ? self + delta : self)
#undef EMULATOR_SHUFFLE

#define EMULATOR_REDUCE(name, type, expression)                             \
    template <typename T> type name(T value, int line = __builtin_LINE())   \
    {                                                                       \
        return emulated::reduce(#name, line, type(value),                   \
                                [](type a, type b) { return expression; }); \
    }
EMULATOR_REDUCE(simd_sum, T, T(a + b))
EMULATOR_REDUCE(simd_min, T, min(a, b))
EMULATOR_REDUCE(simd_max, T, max(a, b))
EMULATOR_REDUCE(simd_any, bool, a || b)
EMULATOR_REDUCE(simd_all, bool, a &&b)
#undef EMULATOR_REDUCE

inline void simdgroup_barrier(mem_flags, int line = __builtin_LINE())
{
    emulated::exchange("simdgroup_barrier", line, 0);
}

} // namespace metal

// How a kernel is called: the types of its parameters say what its slots hold.
namespace emulator
{

template <typename P> struct Parameter {
    static_assert(sizeof(P) == 0, "a parameter must be a device pointer or `constant long &`");
};
template <typename T> struct Parameter<T *> {
    static constexpr char kind = 't';
    static T *of(void *argument)
    {
        return static_cast<T *>(argument);
    }
};
template <> struct Parameter<const long &> {
    static constexpr char kind = 'i';
    static const long &of(void *argument)
    {
        return *static_cast<const long *>(argument);
    }
};

template <int... I> struct Indices {
};
#ifdef __clang__
template <typename, int... I> using IndicesOf = Indices<I...>;
template <int N> using UpTo = __make_integer_seq<IndicesOf, int, N>;
#else
template <int N> using UpTo = Indices<__integer_pack(N)...>;
#endif

template <typename F, int I> struct At;
template <typename P, typename... Rest> struct At<void (*)(P, Rest...), 0> {
    using Type = P;
};
template <typename P, typename... Rest, int I> struct At<void (*)(P, Rest...), I> {
    using Type = typename At<void (*)(Rest...), I - 1>::Type;
};

template <typename... P> constexpr int slots(void (*)(P...))
{
    return sizeof...(P) - 1;
}
constexpr bool is_position(uint3 *)
{
    return true;
}
template <typename T> constexpr bool is_position(T *)
{
    return false;
}

template <auto function, typename = UpTo<slots(function)>> struct Call;
template <auto function, int... I> struct Call<function, Indices<I...>> {
    template <int Slot> using Type = typename At<decltype(function), Slot>::Type;
    static_assert(is_position((Type<sizeof...(I)> *)nullptr),
                  "the last parameter must be uint3 position");
    static constexpr char parameters[] = {Parameter<Type<I>>::kind..., 0};
    static void run(void *const *arguments, const unsigned position[3])
    {
        function(Parameter<Type<I>>::of(arguments[I])...,
                 uint3(position[0], position[1], position[2]));
    }
};
template <auto function> constexpr Kernel describe(const char *name)
{
    return {name, Call<function>::parameters, Call<function>::run};
}

} // namespace emulator

// Threadgroup memory, all of this text's.
extern "C" [[gnu::weak]] char __start_threadgroup[], __stop_threadgroup[];
extern "C" [[gnu::visibility("default")]] char *const emulator_threadgroup[2] = {
    __start_threadgroup, __stop_threadgroup};

// clang-format off
#define threadgroup static __attribute__((section("threadgroup")))
#define constant const
#define device
#define thread
#define kernel
// clang-format on
