/* Arithmetic of sizes. */
#ifndef CAUSAL_CONV1D_CORE_ARITHMETIC_H
#define CAUSAL_CONV1D_CORE_ARITHMETIC_H

#include <stdint.h>

static inline int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* a / b rounded up, for a >= 0 and b > 0 of any size. */
static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

#endif
