// clang-format off
/* What every ISA file includes before its vocabulary: compiler words and tensor access.
 *
 * The vocabulary that an ISA file then defines, over vr, LANES floats, LANES >= 8, of which SiLU does
 * GROUP at once; pair.inc.h makes of it the vectors that the algorithms are written in:
 *   vr_set add sub mul fma(a,b,c)=a*b+c sum    arithmetic
 *   vr_max vr_min (a, b)                       b if it is NaN
 *   vr_exponent(a)                             2^(k-127), k the low 8 bits of a, from 1 to 254
 *   vr_reciprocal(a)                           1 / a, a in [1, 2^127]
 *   vr_load vr_store (pointer, dtype)          LANES elements, any alignment; dtype is a constant;
 *                                              what is stored to 16 bits is no signalling NaN
 *   vr_stream (pointer, dtype)                 vr_store past the caches, the pointer aligned
 *   vr_end_stream()                            before another thread reads what was streamed
 *   vr_load_n vr_store_n (.., n)               the first n <= LANES, no other byte touched; rest 0
 *   vr_move_on(p, x, size, n)                  the LANES rows at p of n elements of `size` bytes,
 *                                              2 or 4, lose their first and get x[row] as last
 *   vr_keep(a, n)                              lanes from n on become 0
 *   vr_keep_bits(a, masks, step, bits)         lane i becomes 0 if no bit of `bits` is in the number
 *                                              of `step` bytes, 1 or 2, at masks + step * i
 *   vr_shift(prev, cur, k)                     lane i is element i-k of the row ..prev,cur; k <= LANES
 *   vr_unzip(a, b, &even, &odd)                elements of the row a,b
 *   vr_pick(v, n, j)                           lane i is element i*n+j of the row v[0],..,v[n-1]; n odd
 *   vr_transpose(v)                            LANES rows v[0],..,v[LANES-1] become the columns
 *   HOLD(v)                                    v is in a register: no use of it loads it again
 *   CORE_TIMES, CORE_TAPS                      sums of products that are kept in registers, and taps;
 *                                              CORE_TIMES a multiple of 4
 * the same over vd, as many bytes of doubles: vd_set add sub mul div fma max min load load_n store
 * store_n transpose, and vd_exponent(a), 2^(k-1023), k the low 11 bits of a, from 1 to 2046
 * and where BF16_PAIRS is 1, over 2 * LANES bf16 elements, those of even place in one register and
 * those of odd place in the other, with no lane crossed:
 *   vr_load_bf16 vr_store_bf16 vr_stream_bf16 vr_load_bf16_n vr_store_bf16_n
 *   vr_split_bf16(a, &even, &odd)              those of the 2 * LANES in a register
 */
// clang-format on
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../core/tensor.h"
#include "kernels.h"

#define INLINE static inline __attribute__((always_inline, unused))

/* Rows of registers in memory: one that straddles cache lines takes twice as long. */
#define ALIGNED _Alignas(64)

/* Floats from row to row of a tile of channels: a power of two would put all rows at one channel
 * into one set of the cache. */
enum { ROW = CC1D_DIM_TILE + 16 };

#define PRAGMA(text) _Pragma(#text)
/* An unrolled loop k = 0..n-1, so that arrays of vectors live in registers. */
#if defined(__clang__)
/* A hint: clang need not warn where it does not follow it. */
#pragma clang diagnostic ignored "-Wpass-failed"
#define EACH(k, n) PRAGMA(clang loop unroll(full)) for (int k = 0; k < (n); k++)
#else
#define EACH(k, n) PRAGMA(GCC unroll 32) for (int k = 0; k < (n); k++)
#endif

/* v[0..n), n rows of n lanes, become their columns: all elements being one row, halving it into
 * those of even and of odd place as often as n can be halved. */
#define TRANSPOSE(v, type, n, unzip)                                               \
    EACH (level, n == 4 ? 2 : n == 8 ? 3 : 4) {                                    \
        type half[n];                                                              \
        EACH (i, n / 2) unzip(v[2 * i], v[2 * i + 1], &half[i], &half[i + n / 2]); \
        EACH (i, n) v[i] = half[i];                                                \
    }

/* p += step, unseen by gcc, which would keep a pointer to each row of a block, on the stack. */
#define NEXT_ROW(p, step)      \
    do {                       \
        (p) += (step);         \
        __asm__("" : "+r"(p)); \
    } while (0)

typedef causal_conv1d_tensor tensor;

/* The address of element (i,j,k) of a tensor whose dtype is known to the compiler. */
INLINE char *at(const tensor *t, causal_conv1d_dtype dtype, int64_t i, int64_t j, int64_t k)
{
    int64_t offset = i * t->stride[0] + j * t->stride[1] + k * t->stride[2];
    return (char *)t->data + offset * (int64_t)cc1d_dtype_size(dtype);
}

INLINE float load_float(const tensor *t, int64_t offset)
{
    return (float)cc1d_load(t->data, t->dtype, offset);
}

/* The W weights and the bias of channel d, rounded to fp32. */
INLINE void load_channel(const tensor *weight, const tensor *bias, int64_t d, const int W,
                         float *taps_and_bias)
{
    const int64_t first = d * weight->stride[0], step = weight->stride[1];
    EACH (k, W) taps_and_bias[k] = load_float(weight, first + k * step);
    taps_and_bias[W] = bias->dtype ? load_float(bias, d * bias->stride[0]) : 0;
}

/* One element whose dtype is known to the compiler. */
INLINE float load_scalar(const char *p, causal_conv1d_dtype dtype)
{
    return (float)cc1d_load(p, dtype, 0);
}

INLINE void store_scalar(char *p, causal_conv1d_dtype dtype, float v)
{
    cc1d_store(p, dtype, 0, (double)v);
}

/* Where column j of the W-1 before time 0 of a sequence lies. */
INLINE const char *state_at(const cc1d_args *args, const cc1d_sequence *s, int64_t d, int64_t j,
                            causal_conv1d_dtype dtype)
{
    int64_t column = s->column + j;
    if (column >= args->states.size[2]) column -= args->states.size[2];
    return at(&args->states, dtype, s->state, d, column);
}
