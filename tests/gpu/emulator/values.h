// The types of the Metal Shading Language that C++ lacks: half, bfloat and vectors.
#pragma once

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
        // Of a subnormal half, which is no subnormal float and stays where those are flushed.
        if (magnitude >> Mantissa == 0)
            return as_type<float>(sign |
                                  as_type<uint>(float(magnitude) *
                                                as_type<float>(uint(128 - bias - Mantissa) << 23)));
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
