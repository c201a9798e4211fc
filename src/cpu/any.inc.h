/* Any width, any strides, float64, over an ISA's vocabulary.  A block of a tile is copied to
 * scratch memory and back (any_pack.inc.h); the kernels see rows there (any_kernels.inc.h).  Both
 * are included in float and in double; here is which elements of a call the lanes of a row hold. */
#include <stdlib.h>

enum { MOST_LANES = 16 };

/* Lane l is channel d + l % channels.  The lanes of one channel are of `sequences` sequences from n
 * on and, where that leaves lanes free, of several segments of each, `times` times long. */
typedef struct lane_group {
    const cc1d_args *args;
    int channels, lanes;
    bool one_time; /* all lanes are at the same time of sequences of the same length */
    int64_t times, length;
    cc1d_sequence first; /* others differ in batch and state */
    int64_t d[MOST_LANES], batch[MOST_LANES], state[MOST_LANES], begin[MOST_LANES];
} lane_group;

/* Lanes beyond the last repeat earlier ones, so that they can be read. */
INLINE lane_group group_lanes(const cc1d_args *args, int64_t d, int channels, int64_t n,
                              int sequences, int segments, int64_t begin, int64_t times)
{
    const cc1d_sequence s = cc1d_sequence_at(args, n);
    lane_group g;
    g.args = args, g.channels = channels, g.lanes = channels * sequences * segments;
    g.one_time = segments == 1, g.times = times, g.length = s.length, g.first = s;
    for (int l = 0; l < MOST_LANES; l++) {
        const int item = l / channels, sequence = item % sequences;
        const bool used = l < g.lanes;
        g.d[l] = d + l % channels;
        g.batch[l] = s.batch + (used ? sequence : 0);
        g.state[l] = s.state + (used ? sequence : 0);
        g.begin[l] = begin + (used ? item / sequences * times : 0);
    }
    return g;
}

/* The elements (., channel, time) of t in every lane, a time of x counted from its begin. */
INLINE void time_elements(const lane_group *g, const tensor *t, int64_t time, int64_t *element)
{
    for (int l = 0; l < MOST_LANES; l++)
        element[l] = g->batch[l] * t->stride[0] + g->d[l] * t->stride[1] +
                     (g->first.start + g->begin[l] + time) * t->stride[2];
}

/* The same for a column of states. */
INLINE void state_elements(const lane_group *g, const tensor *t, int64_t column, int64_t *element)
{
    for (int l = 0; l < MOST_LANES; l++)
        element[l] = g->state[l] * t->stride[0] + g->d[l] * t->stride[1] + column * t->stride[2];
}

/* And of weight and bias. */
INLINE void channel_elements(const tensor *t, int64_t d, int channels, int64_t *element)
{
    for (int l = 0; l < MOST_LANES; l++) element[l] = (d + l % channels) * t->stride[0];
}

/* Whether the lanes are neighbours in memory. */
INLINE bool are_neighbours(const int64_t *element, int lanes)
{
    int l = 1;
    while (l < lanes && element[l] == element[0] + l) l++;
    return l == lanes;
}

/* Rows, or bytes of a row, that are fetched before they are needed: a tile is too narrow for the
 * processor to foresee what comes. */
enum { AHEAD = 16, AHEAD_IN_ROW = 256 };

/* Element by element between n rows of lanes and memory; the smaller step runs fastest. */
INLINE void move_elements(char *rows, const int columns, char *data, const int64_t *element,
                          int lanes, int64_t step, int64_t n, const int size, const bool to_rows)
{
    const int64_t across = lanes > 1 ? element[1] - element[0] : INT64_MAX;
    const bool down = llabs(step) <= llabs(across);
    for (int64_t i = 0; i < (down ? lanes : n); i++) {
        char *p = rows + i * (down ? 1 : columns) * size, *q = data + i * step * size;
        if (down) {
            q = data + element[i] * size;
            for (int64_t r = 0; r < n; r++, p += columns * size, q += step * size)
                memcpy(to_rows ? p : q, to_rows ? q : p, (size_t)size);
        } else {
            const char *next = q + AHEAD * step * size;
            __builtin_prefetch(next + element[0] * size);
            __builtin_prefetch(next + element[lanes - 1] * size);
            for (int l = 0; l < lanes; l++)
                memcpy(to_rows ? p + l * size : q + element[l] * size,
                       to_rows ? q + element[l] * size : p + l * size, (size_t)size);
        }
    }
}

INLINE void vr_silu(vr *v, const bool derivative, causal_conv1d_dtype dtype)
{
    if (derivative)
        silu_derivative_group(v, GROUP);
    else
        silu_of(v, GROUP, dtype);
}

/* silu or its derivative in double, as sigmoid.inc.h has them in float; exp(r) by the first terms
 * of its series, which leave 2^-57. */
INLINE void vd_silu(vd *v, const bool derivative, causal_conv1d_dtype dtype)
{
    (void)dtype;
    const vd round = vd_set(0x1.8p52 + 1023), limit = vd_set(700), one = vd_set(1);
    const double term[] = {1. / 6227020800,
                           1. / 479001600,
                           1. / 39916800,
                           1. / 3628800,
                           1. / 362880,
                           1. / 40320,
                           1. / 5040,
                           1. / 720,
                           1. / 120,
                           1. / 24,
                           1. / 6,
                           1. / 2,
                           1};
    vd magic[GROUP], r[GROUP], p[GROUP], s[GROUP], c[GROUP];
    EACH (i, GROUP) v[i] = vd_max(vd_sub(vd_set(0), limit), v[i]);
    EACH (i, GROUP) c[i] = vd_min(limit, v[i]);
    EACH (i, GROUP) magic[i] = vd_fma(c[i], vd_set(-0x1.71547652b82fep0), round);
    EACH (i, GROUP) p[i] = vd_sub(magic[i], round);
    EACH (i, GROUP) r[i] = vd_fma(p[i], vd_set(-0x1.62e42fefa39efp-1), vd_sub(vd_set(0), c[i]));
    EACH (i, GROUP) r[i] = vd_fma(p[i], vd_set(-0x1.abc9e3b39803fp-56), r[i]);
    EACH (i, GROUP) p[i] = vd_set(term[0]);
    EACH (k, 12)
        EACH (i, GROUP) p[i] = vd_fma(r[i], p[i], vd_set(term[k + 1]));
    EACH (i, GROUP) p[i] = vd_fma(r[i], p[i], one);
    EACH (i, GROUP) magic[i] = vd_exponent(magic[i]);
    EACH (i, GROUP) s[i] = vd_div(one, vd_fma(p[i], magic[i], one));
    if (derivative) {
        EACH (i, GROUP) r[i] = vd_mul(vd_mul(p[i], magic[i]), s[i]); /* 1 - s */
        EACH (i, GROUP) v[i] = vd_mul(s[i], vd_fma(c[i], r[i], one));
    } else {
        EACH (i, GROUP) v[i] = vd_mul(v[i], s[i]);
    }
}

#define REAL float
#define REAL_DTYPE CAUSAL_CONV1D_FLOAT32
#define REAL_DTYPES(X, move) X(move, FLOAT32) X(move, FLOAT16) X(move, BFLOAT16)
#define V vr
#define VEC(name) vr_##name
#define NAME(name) name##_f32
#include "any_pack.inc.h"
#include "any_kernels.inc.h"
#undef REAL
#undef REAL_DTYPE
#undef REAL_DTYPES
#undef V
#undef VEC
#undef NAME

#define REAL double
#define REAL_DTYPE CAUSAL_CONV1D_FLOAT64
#define REAL_DTYPES(X, move) X(move, FLOAT64)
#define V vd
#define VEC(name) vd_##name
#define NAME(name) name##_f64
#include "any_pack.inc.h"
#include "any_kernels.inc.h"
#undef REAL
#undef REAL_DTYPE
#undef REAL_DTYPES
#undef V
#undef VEC
#undef NAME
