/* The scalar code: the oracle that every ISA is checked against, and the fallback that serves
 * any stride, width, dtype and CPU.  Plain loops in the order of the formulas; it shares no
 * code with the vector kernels and is kept from being vectorised. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize")
#endif

#include <assert.h>
#include <math.h>

#include "../core/tensor.h"
#include "kernels.h"

typedef causal_conv1d_tensor tensor;

#define REAL float
#define FMA fmaf
#define EXP expf
#define LIMIT 87.0f
#define NAME(name) name##_f32
#include "scalar.inc.h"
#undef REAL
#undef FMA
#undef EXP
#undef LIMIT
#undef NAME

#define REAL double
#define FMA fma
#define EXP exp
#define LIMIT 700.0
#define NAME(name) name##_f64
#include "scalar.inc.h"

void cc1d_forward_scalar(const cc1d_args *args, const cc1d_tile *tile)
{
    (args->x.dtype == CAUSAL_CONV1D_FLOAT64 ? forward_f64 : forward_f32)(args, tile);
}

void cc1d_backward_scalar(const cc1d_args *args, const cc1d_tile *tile, void *partial)
{
    if (args->x.dtype == CAUSAL_CONV1D_FLOAT64)
        backward_f64(args, tile, partial);
    else
        backward_f32(args, tile, partial);
}
