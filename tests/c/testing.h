/* What the C tests share: the number formats by their definition, random numbers, the count. */
#ifndef TESTING_H
#define TESTING_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/causal_conv1d.h"

typedef struct format {
    int size, fraction; /* bytes of a number, bits of its fraction */
    int least;          /* 2^least is the smallest denormal */
    uint64_t inf;       /* the bits of +Inf */
} format;

static inline format format_of(causal_conv1d_dtype dtype)
{
    switch (dtype) {
    case CAUSAL_CONV1D_FLOAT32: return (format){4, 23, -149, 0x7f800000};
    case CAUSAL_CONV1D_FLOAT16: return (format){2, 10, -24, 0x7c00};
    case CAUSAL_CONV1D_BFLOAT16: return (format){2, 7, -133, 0x7f80};
    default: return (format){8, 52, -1074, 0x7ff0000000000000}; /* and the size of int64 */
    }
}

static inline int element_size(causal_conv1d_dtype dtype)
{
    return dtype == CAUSAL_CONV1D_INT32 ? 4 : format_of(dtype).size;
}

static inline const char *dtype_name(causal_conv1d_dtype dtype)
{
    const char *const names[] = {"none", "fp32", "fp16", "bf16", "fp64", "int32", "int64"};
    return names[dtype];
}

static inline double decode(causal_conv1d_dtype dtype, uint64_t bits)
{
    format f = format_of(dtype);
    uint64_t sign = (uint64_t)1 << (8 * f.size - 1), mag = bits & (sign - 1);
    uint64_t one = (uint64_t)1 << f.fraction;
    int exponent = (int)(mag >> f.fraction);
    double v = mag < one ? ldexp((double)mag, f.least)
                         : ldexp((double)(mag % one + one), f.least + exponent - 1);
    if (mag >= f.inf) v = mag == f.inf ? INFINITY : NAN;
    return bits & sign ? -v : v;
}

/* The exponent of the unit in the last place of v, |v| not above the format's range. */
static inline int unit_exponent(format f, double v)
{
    int e;
    frexp(v, &e);
    e -= f.fraction + 1;
    return v == 0 || e < f.least ? f.least : e;
}

/* Round to nearest, ties to even: that is how rintl rounds the number of units. */
static inline uint64_t encode(causal_conv1d_dtype dtype, double v)
{
    format f = format_of(dtype);
    uint64_t sign = signbit(v) ? (uint64_t)1 << (8 * f.size - 1) : 0, mag = f.inf;
    if (isnan(v)) return f.inf | (uint64_t)1 << (f.fraction - 1);
    if (!isinf(v)) {
        int unit = unit_exponent(f, v);
        uint64_t steps = (uint64_t)(unit - f.least);
        /* A fraction that rounds up to 2 carries into the exponent, which is then right. */
        if (steps < f.inf >> f.fraction)
            mag = (steps << f.fraction) + (uint64_t)rint(ldexp(fabs(v), -unit));
    }
    return sign | (mag < f.inf ? mag : f.inf);
}

static inline double rounded(causal_conv1d_dtype dtype, double v)
{
    return decode(dtype, encode(dtype, v));
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static struct {
    long passed, failed;
} results;

/* Counts a result; prints the message if it is bad. */
#ifdef __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
static inline void check(bool ok, const char *message, ...)
{
    if (ok) {
        results.passed++;
        return;
    }
    va_list args;
    va_start(args, message);
    results.failed++;
    printf("FAIL ");
    vprintf(message, args);
    printf("\n");
    va_end(args);
}

/* The last line, and the exit status. */
static inline int report(void)
{
    printf("%ld passed, %ld failed\n", results.passed, results.failed);
    return results.passed > 0 && results.failed == 0 ? 0 : 1;
}

#endif
