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
#include "values.h"

extern "C" [[gnu::visibility("default")]] const emulator::Runtime *emulator_runtime = nullptr;

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
    emulator_runtime->exchange("simdgroup_barrier", line, nullptr, 0);
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
