/* The CPU back end: cut a call into tiles, pick the kernel, run the tiles on the caller's
 * threads, and add up the partial sums of the weight gradients. */
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../check.h"
#include "dtype.h"
#include "features.h"
#include "kernels.h"

static cc1d_kernels scalar_kernels(int64_t variant)
{
    (void)variant;
    return (cc1d_kernels){cc1d_forward_scalar, cc1d_backward_scalar};
}

static const cc1d_isa scalar = {"scalar", 0, scalar_kernels};

#ifdef CC1D_X86
extern const cc1d_isa cc1d_avx2, cc1d_avx512;
#endif

const cc1d_isa *const cc1d_isas[] = {
#ifdef CC1D_X86
    &cc1d_avx512, &cc1d_avx2,
#endif
    &scalar, NULL};

const cc1d_isa *cc1d_best_isa(void)
{
    static _Atomic(const cc1d_isa *) best; /* two threads may both find it: the same one */
    const cc1d_isa *isa = atomic_load_explicit(&best, memory_order_acquire);
    if (!isa) {
        uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
        const cc1d_isa *const *i = cc1d_isas;
        while (((*i)->features & ~have) != 0) i++;
        isa = *i;
        atomic_store_explicit(&best, isa, memory_order_release);
    }
    return isa;
}

/* Tiles of a call: batch_tiles * time_tiles * dim_tiles, the last index running fastest. */
typedef struct tiling {
    int64_t batch, dim, seqlen;
    int64_t batch_size, dim_size, time_size;
    int64_t batch_tiles, dim_tiles, time_tiles;
} tiling;

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Elements of a tile: enough to make its set-up small, few enough to share out small calls. */
enum { TILE = 16384, TIME_TILE = 8192, BATCH_TILE = 1024 };

/* Time tiles are multiples of 64 elements, so that the vectors of one never straddle two. */
static tiling make_tiling(const causal_conv1d_tensor *x, cc1d_layout layout, bool sum_batches)
{
    tiling t = {.batch = x->size[0], .dim = x->size[1], .seqlen = x->size[2], .batch_size = 1};
    if (layout == CC1D_DIM) {
        t.dim_size = max64(1, min64(t.dim, CC1D_DIM_TILE));
        t.time_size = ceil_div(4 * TILE / t.dim_size, 64) * 64;
    } else {
        t.time_size = TIME_TILE;
        t.dim_size = max64(1, TILE / 4 / max64(min64(t.seqlen, t.time_size), 1));
    }
    t.time_tiles = ceil_div(t.seqlen, t.time_size);
    /* Partial sums cost memory: a tile of few times covers several batches. */
    if (sum_batches && t.time_tiles == 1) t.batch_size = max64(1, BATCH_TILE / t.seqlen);
    t.batch_tiles = ceil_div(t.batch, t.batch_size);
    t.dim_tiles = ceil_div(t.dim, t.dim_size);
    return t;
}

static int64_t tile_count(const tiling *t)
{
    return t->batch_tiles * t->time_tiles * t->dim_tiles;
}

static cc1d_tile tile_at(const tiling *t, int64_t index)
{
    int64_t d = index % t->dim_tiles * t->dim_size;
    int64_t s = index / t->dim_tiles % t->time_tiles * t->time_size;
    int64_t b = index / t->dim_tiles / t->time_tiles * t->batch_size;
    return (cc1d_tile){b, min64(b + t->batch_size, t->batch), d, min64(d + t->dim_size, t->dim),
                       s, min64(s + t->time_size, t->seqlen)};
}

static void for_range(const causal_conv1d_threads *threads, int64_t end, int64_t grain,
                      causal_conv1d_body *body, void *context)
{
    if (end <= 0) return;
    if (threads && threads->for_range && end > grain)
        threads->for_range(threads->user, 0, end, grain, body, context);
    else
        body(0, end, context);
}

/* Tiles that make it worth waking another thread. */
static int64_t tile_grain(const tiling *t)
{
    int64_t elements = min64(t->batch_size, t->batch) * min64(t->dim_size, t->dim) *
                       min64(t->time_size, t->seqlen);
    return max64(1, TILE / max64(elements, 1));
}

static cc1d_layout common_layout(const causal_conv1d_tensor *const *tensors, int n)
{
    bool time = true, dim = true;
    for (int i = 0; i < n; i++) {
        time = time && (tensors[i]->size[2] == 1 || tensors[i]->stride[2] == 1);
        dim = dim && (tensors[i]->size[1] == 1 || tensors[i]->stride[1] == 1);
    }
    if (time && dim) return tensors[0]->size[2] == 1 ? CC1D_DIM : CC1D_TIME;
    return time ? CC1D_TIME : dim ? CC1D_DIM : CC1D_STRIDED;
}

/* The ISA's kernels for a call, or the scalar ones. */
static cc1d_kernels choose(const cc1d_isa *isa, cc1d_layout layout, const causal_conv1d_tensor *x,
                           const causal_conv1d_tensor *weight, bool silu)
{
    cc1d_kernels k = {0};
    if (weight->size[1] <= CC1D_MAX_WIDTH)
        k = isa->kernels(CC1D_VARIANT((int64_t)layout, x->dtype, weight->size[1], silu));
    return k.forward ? k : scalar_kernels(0);
}

typedef struct forward_run {
    const causal_conv1d_forward_args *args;
    cc1d_forward_kernel *kernel;
    tiling tiling;
} forward_run;

static void forward_tiles(int64_t begin, int64_t end, void *context)
{
    const forward_run *run = context;
    for (int64_t i = begin; i < end; i++) {
        cc1d_tile tile = tile_at(&run->tiling, i);
        run->kernel(run->args, &tile);
    }
}

void cc1d_cpu_forward(const cc1d_isa *isa, const causal_conv1d_forward_args *args,
                      const causal_conv1d_threads *threads)
{
    const causal_conv1d_tensor *const tensors[] = {&args->x, &args->out};
    cc1d_layout layout = common_layout(tensors, 2);
    forward_run run = {args, choose(isa, layout, &args->x, &args->weight, args->silu).forward,
                       make_tiling(&args->x, layout, false)};
    for_range(threads, tile_count(&run.tiling), tile_grain(&run.tiling), forward_tiles, &run);
}

typedef struct backward_run {
    const causal_conv1d_backward_args *args;
    cc1d_backward_kernel *kernel;
    tiling tiling;
    char *partials; /* [batch tile][time tile][W + 1][D] */
    int64_t partial_bytes;
} backward_run;

static void backward_tiles(int64_t begin, int64_t end, void *context)
{
    const backward_run *run = context;
    for (int64_t i = begin; i < end; i++) {
        cc1d_tile tile = tile_at(&run->tiling, i);
        run->kernel(run->args, &tile,
                    run->partials + i / run->tiling.dim_tiles * run->partial_bytes);
    }
}

/* Second pass: dweight and dbias of channels [begin, end), the partial sums in their order. */
static void reduce_channels(int64_t begin, int64_t end, void *context)
{
    const backward_run *run = context;
    const causal_conv1d_backward_args *args = run->args;
    const causal_conv1d_tensor *dw = &args->dweight, *db = &args->dbias;
    int64_t count = run->tiling.batch_tiles * run->tiling.time_tiles;
    int64_t dim = run->tiling.dim, width = dw->size[1];
    bool f64 = args->x.dtype == CAUSAL_CONV1D_FLOAT64;
    for (int64_t row = 0; row <= width; row++) {
        if (row == width && !cc1d_present(db)) break;
        for (int64_t block = begin; block < end; block += 64) {
            double sum[64] = {0};
            int64_t n = min64(64, end - block);
            for (int64_t p = 0; p < count; p++) {
                const char *partial = run->partials + p * run->partial_bytes;
                if (f64)
                    for (int64_t i = 0; i < n; i++)
                        sum[i] += ((const double *)partial)[row * dim + block + i];
                else
                    for (int64_t i = 0; i < n; i++)
                        sum[i] += (double)((const float *)partial)[row * dim + block + i];
            }
            for (int64_t i = 0; i < n; i++) {
                int64_t d = block + i;
                if (row < width)
                    cc1d_store(dw->data, dw->dtype, d * dw->stride[0] + row * dw->stride[1],
                               sum[i]);
                else
                    cc1d_store(db->data, db->dtype, d * db->stride[0], sum[i]);
            }
        }
    }
}

causal_conv1d_status cc1d_cpu_backward(const cc1d_isa *isa, const causal_conv1d_backward_args *args,
                                       const causal_conv1d_threads *threads)
{
    const causal_conv1d_tensor *const tensors[] = {&args->x, &args->dout, &args->dx};
    cc1d_layout layout = common_layout(tensors, 3);
    backward_run run = {args, choose(isa, layout, &args->x, &args->weight, args->silu).backward,
                        make_tiling(&args->x, layout, true), NULL, 0};
    int64_t tiles = tile_count(&run.tiling), bytes;
    run.partial_bytes = (args->weight.size[1] + 1) * run.tiling.dim *
                        (args->x.dtype == CAUSAL_CONV1D_FLOAT64 ? 8 : 4);
    if (__builtin_mul_overflow(run.partial_bytes, run.tiling.batch_tiles * run.tiling.time_tiles,
                               &bytes) ||
        (uint64_t)bytes > SIZE_MAX)
        return CAUSAL_CONV1D_OUT_OF_MEMORY;
    if (bytes > 0 && !(run.partials = malloc((size_t)bytes))) return CAUSAL_CONV1D_OUT_OF_MEMORY;
    for_range(threads, tiles, tile_grain(&run.tiling), backward_tiles, &run);
    for_range(threads, run.tiling.dim, 1024, reduce_channels, &run);
    free(run.partials);
    return CAUSAL_CONV1D_OK;
}
