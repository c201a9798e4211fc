/* The CPU back end: cut a call into tiles, pick the kernel, run the tiles on the caller's threads,
 * add up the partial sums of the weight gradients, and move the states on. */
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../core/arithmetic.h"
#include "../core/lent.h"
#include "../core/tensor.h"
#include "features.h"
#include "kernels.h"

static cc1d_kernels scalar_kernels(int64_t variant)
{
    (void)variant;
    return (cc1d_kernels){cc1d_forward_scalar, cc1d_backward_scalar, NULL, 0};
}

static cc1d_kernels scalar_any(bool f64)
{
    return scalar_kernels(f64);
}

static const cc1d_isa scalar = {"scalar", 0, scalar_kernels, scalar_any};

#ifdef CC1D_X86
extern const cc1d_isa cc1d_avx2, cc1d_avx512;
#endif
#ifdef CC1D_AARCH64
extern const cc1d_isa cc1d_neon, cc1d_neon_bf16;
#endif

const cc1d_isa *const cc1d_isas[] = {
#ifdef CC1D_X86
    &cc1d_avx512,    &cc1d_avx2,
#endif
#ifdef CC1D_AARCH64
    &cc1d_neon_bf16, &cc1d_neon,
#endif
    &scalar,         NULL};

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

/* Elements of a tile: enough to make its set-up small, few enough to share out small calls. */
enum { TILE = 16384, TIME_TILE = 8192, DIM_TILE = 256 };

/* Elements of a call from which on tiles of channel rows are CC1D_DIM_TILE wide: what comes from
 * memory comes faster in long rows, but in a cache more tiles are better. */
enum { WIDE = 1 << 22 };

/* How an operation is cut into tiles.  `columns` are the rows of the batch that a tile gathers: few
 * tiles need few partial sums and load few weights, but threads must have enough of them.
 * `wide_times` is the least number of times of a wide tile, since a backward tile computes W-1
 * times more than it has.  The rest is the same for any width, with times per tap. */
typedef struct cutting {
    int64_t columns, wide_times, any_columns, any_times, times_per_tap;
    int64_t elements; /* rows of the batch are gathered until a tile has as many */
} cutting;

static const cutting forward_cutting = {1, 0, 64, CC1D_BLOCK, 0, TILE / 4},
                     update_cutting = {8, 0, 0, 0, 0, 0},
                     backward_cutting = {1024, 256, 1024, 1024, 8, 0};

/* The tiles of a call: `spans` ranges of sequences and times, times dim_tiles of channels, which
 * run fastest.  Packed sequences have their spans listed: a long one is cut by time, short ones
 * share a span. */
typedef struct tiling {
    int64_t batch, dim, seqlen;
    int64_t batch_size, dim_size, time_size;
    int64_t channels; /* as in cc1d_tile */
    int64_t spans, dim_tiles, time_tiles;
    cc1d_tile *list; /* NULL: spans are a grid of batch_size by time_size */
} tiling;

static void list_spans(tiling *t, const cc1d_args *args)
{
    for (int64_t n = 0; n < t->batch; n++) {
        int64_t length = cc1d_sequence_at(args, n).length;
        cc1d_tile *last = t->spans ? &t->list[t->spans - 1] : NULL;
        int64_t begin = 0;
        if (last && last->time_begin == 0 && last->time_end + length <= t->time_size) {
            /* While the list is made, time_end of a shared span is the sum of its lengths. */
            last->batch_end = n + 1;
            last->time_end += length;
            continue;
        }
        do {
            int64_t end = min64(begin + t->time_size, length);
            t->list[t->spans++] = (cc1d_tile){n, n + 1, 0, 0, begin, end, 0, NULL};
            begin = end;
        } while (begin < length);
    }
}

static int64_t magnitude(int64_t a)
{
    return a < 0 ? -a : a;
}

/* Sizes for kernels with columns.  If the batch has the smallest stride its rows take the columns.
 */
static void cut_columns(tiling *t, const cc1d_args *args, cc1d_layout layout, cutting cut,
                        int64_t columns)
{
    const causal_conv1d_tensor *x = &args->x;
    const bool alike = !cc1d_present(&args->cu_seqlens) && !cc1d_present(&args->seq_idx) &&
                       !cc1d_present(&args->cache_seqlens) &&
                       !cc1d_present(&args->conv_state_indices);
    const bool across = layout == CC1D_STRIDED && alike && t->batch >= columns / 2 &&
                        magnitude(x->stride[0]) < magnitude(x->stride[1]) &&
                        magnitude(x->stride[0]) < magnitude(x->stride[2]);
    t->channels = across ? 1 : max64(1, min64(columns, t->dim));
    t->dim_size = max64(1, min64(t->dim, layout == CC1D_DIM ? DIM_TILE : columns));
    t->time_size = max64(layout == CC1D_TIME ? TILE / columns : CC1D_BLOCK, cut.any_times);
    t->time_size = max64(t->time_size, cut.times_per_tap * args->weight.size[1]);
    t->batch_size = alike ? columns / t->channels : 1;
    t->batch_size *= max64(1, cut.any_columns / max64(1, t->seqlen) / t->batch_size);
}

/* Depends on the shape, the layout and cu_seqlens alone.  Time tiles are multiples of 64 elements,
 * so that the vectors of one never straddle two.  False: out of memory. */
static bool make_tiling(tiling *t, const cc1d_args *args, cc1d_layout layout, cutting cut,
                        int64_t columns)
{
    const causal_conv1d_tensor *x = &args->x, *packed = &args->cu_seqlens;
    *t = (tiling){.dim = x->size[1], .seqlen = x->size[2], .batch_size = 1};
    t->batch = cc1d_sequences(x, packed);
    if (columns) {
        cut_columns(t, args, layout, cut, columns);
    } else if (layout == CC1D_DIM) {
        bool wide = (double)x->size[0] * (double)t->dim * (double)t->seqlen >= WIDE;
        t->dim_size = max64(1, min64(t->dim, wide ? CC1D_DIM_TILE : DIM_TILE));
        t->time_size = ceil_div(4 * TILE / t->dim_size, 64) * 64;
        if (wide) t->time_size = max64(t->time_size, cut.wide_times);
    } else {
        t->time_size = TIME_TILE;
        t->dim_size = max64(1, TILE / 4 / max64(min64(t->seqlen, t->time_size), 1));
    }
    t->dim_tiles = ceil_div(t->dim, t->dim_size);
    if (cc1d_present(packed)) {
        size_t most = (size_t)(t->batch + t->seqlen / t->time_size + 1);
        if (!(t->list = malloc(most * sizeof *t->list))) return false;
        list_spans(t, args);
        return true;
    }
    t->time_tiles = max64(1, ceil_div(t->seqlen, t->time_size));
    if (t->time_tiles == 1 && !columns) {
        const int64_t times = max64(1, t->seqlen);
        const int64_t row = max64(1, min64(t->dim_size, t->dim) * times);
        t->batch_size = max64(max64(1, cut.columns / times), cut.elements / row);
    }
    t->spans = ceil_div(t->batch, t->batch_size) * t->time_tiles;
    return true;
}

static cc1d_tile tile_at(const tiling *t, int64_t index)
{
    int64_t d = index % t->dim_tiles * t->dim_size, span = index / t->dim_tiles;
    cc1d_tile tile;
    if (t->list) {
        tile = t->list[span];
    } else {
        tile.batch_begin = span / t->time_tiles * t->batch_size;
        tile.batch_end = min64(tile.batch_begin + t->batch_size, t->batch);
        tile.time_begin = span % t->time_tiles * t->time_size;
        tile.time_end = min64(tile.time_begin + t->time_size, t->seqlen);
    }
    tile.dim_begin = d, tile.dim_end = min64(d + t->dim_size, t->dim);
    tile.channels = t->channels;
    return tile;
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

/* The ISA's kernels for a call: specialised ones, or those for any. */
static cc1d_kernels choose(const cc1d_isa *isa, cc1d_layout layout, const cc1d_args *args)
{
    cc1d_kernels k = {0};
    if (args->weight.size[1] <= CC1D_MAX_WIDTH)
        k = isa->kernels(CC1D_VARIANT((int64_t)layout, args->x.dtype, args->weight.size[1]));
    return k.forward ? k : isa->any(args->x.dtype == CAUSAL_CONV1D_FLOAT64);
}

/* A call under way. */
typedef struct run {
    cc1d_args args;
    cc1d_kernels kernels;
    tiling tiling;
    int64_t *cuts; /* the values of cu_seqlens */
    uint8_t *masks;
    char *partials; /* of the backward: [span][W + 1][D] */
    int64_t partial_bytes;
    atomic_bool failed; /* no memory */
} run;

/* Tiles that make it worth waking another thread. */
static int64_t tile_grain(const run *r)
{
    const tiling *t = &r->tiling;
    int64_t elements = min64(t->batch_size, t->batch) * min64(t->dim_size, t->dim) *
                       min64(t->time_size, t->seqlen);
    if (r->kernels.columns) elements *= 1 + r->args.weight.size[1] / 8;
    return max64(1, TILE / max64(elements, 1));
}

static void mask_times(int64_t begin, int64_t end, void *context)
{
    run *r = context;
    const causal_conv1d_tensor *seq_idx = &r->args.seq_idx;
    int64_t seqlen = seq_idx->size[1], width = r->args.weight.size[1];
    const uint8_t full = (uint8_t)((1 << width) - 1);
    for (int64_t i = begin, since = 0; i < end; i++) { /* since: times that the id has stayed */
        int64_t b = i / seqlen, t = i % seqlen, id = cc1d_seq_idx(seq_idx, b, t);
        if (t == 0) since = width; /* the columns before carry the first id */
        if (t > 0) since = id == cc1d_seq_idx(seq_idx, b, t - 1) ? since + 1 : 1;
        r->masks[i] = full;
        if (since >= width && id >= 0) continue;
        r->masks[i] = 0;
        for (int64_t k = 0; k < width && id >= 0; k++)
            if (cc1d_seq_idx(seq_idx, b, t - (width - 1) + k) == id)
                r->masks[i] |= (uint8_t)(1 << k);
    }
}

/* Takes the values of cu_seqlens into memory of the call, from 0 to T and never falling: what
 * another thread writes there after the check does no harm.  False: out of memory. */
static bool take_cuts(run *r)
{
    causal_conv1d_tensor *packed = &r->args.cu_seqlens;
    int64_t last = 0;
    if (!cc1d_present(packed)) return true;
    if (!(r->cuts = malloc((size_t)packed->size[0] * sizeof *r->cuts))) return false;
    for (int64_t i = 0; i < packed->size[0]; i++)
        r->cuts[i] = last = min64(max64(cc1d_index(packed, i), last), r->args.x.size[2]);
    packed->data = r->cuts, packed->dtype = CAUSAL_CONV1D_INT64, packed->stride[0] = 1;
    return true;
}

static void end_run(run *r)
{
    free(r->cuts);
    free(r->tiling.list);
    free(r->masks);
    free(r->partials);
}

/* Chooses kernels and tiles; false: out of memory. */
static bool begin_run(run *r, const cc1d_isa *isa, const causal_conv1d_tensor *const *same_layout,
                      int n, cutting cut, const causal_conv1d_threads *threads)
{
    cc1d_layout layout = common_layout(same_layout, n);
    const causal_conv1d_tensor *seq_idx = &r->args.seq_idx;
    r->kernels = choose(isa, layout, &r->args);
    /* So wide that the bytes of its scratch memory would overflow. */
    if (r->args.weight.size[1] > INT64_MAX / 1024) return false;
    if (!make_tiling(&r->tiling, &r->args, layout, cut, r->kernels.columns)) return false;
    if (!cc1d_present(seq_idx) || r->kernels.columns || r->args.weight.size[1] > CC1D_MAX_WIDTH)
        return true;
    int64_t count = seq_idx->size[0] * seq_idx->size[1];
    if (!(r->masks = malloc((size_t)count + 64))) return false;
    memset(r->masks + count, 0, 64);
    cc1d_for_range(threads, count, TILE, mask_times, r);
    r->args.masks = r->masks;
    return true;
}

/* Runs tiles [begin, end) of the forward, or of the backward if there are partial sums. */
static void run_tiles(int64_t begin, int64_t end, void *context)
{
    run *r = context;
    char *memory = NULL, *scratch = NULL;
    if (r->kernels.columns) {
        if (!(memory = malloc((size_t)cc1d_scratch_bytes(&r->args) + 64))) {
            atomic_store(&r->failed, true);
            return;
        }
        scratch = memory + (-(uintptr_t)memory & 63);
    }
    for (int64_t i = begin; i < end; i++) {
        cc1d_tile tile = tile_at(&r->tiling, i);
        tile.scratch = scratch;
        if (r->partials)
            r->kernels.backward(&r->args, &tile,
                                r->partials + i / r->tiling.dim_tiles * r->partial_bytes);
        else
            r->kernels.forward(&r->args, &tile);
    }
    free(memory);
}

static bool run_forward(run *r, const cc1d_isa *isa, const causal_conv1d_threads *threads)
{
    const causal_conv1d_tensor *const same_layout[] = {&r->args.x, &r->args.out};
    if (cc1d_is_empty(&r->args.x)) return true;
    if (!begin_run(r, isa, same_layout, 2, forward_cutting, threads)) return false;
    cc1d_for_range(threads, r->tiling.spans * r->tiling.dim_tiles, tile_grain(r), run_tiles, r);
    if (cc1d_present(&r->args.cu_seqlens)) cc1d_clear_padding(&r->args, &r->args.out, threads);
    return !r->failed;
}

causal_conv1d_status cc1d_cpu_forward(const cc1d_isa *isa, const causal_conv1d_forward_args *args,
                                      bool stream, const causal_conv1d_threads *threads)
{
    run r = {.args = {.x = args->x,
                      .weight = args->weight,
                      .bias = args->bias,
                      .seq_idx = args->seq_idx,
                      .cu_seqlens = args->cu_seqlens,
                      .states = args->initial_states,
                      .out = args->out,
                      .silu = args->silu,
                      .stream = stream}};
    const bool ok = take_cuts(&r) && run_forward(&r, isa, threads);
    if (ok && cc1d_present(&args->final_states))
        cc1d_move_states(&r.args, &args->final_states, threads);
    end_run(&r);
    return ok ? CAUSAL_CONV1D_OK : CAUSAL_CONV1D_OUT_OF_MEMORY;
}

static void update_tiles(int64_t begin, int64_t end, void *context)
{
    const run *r = context;
    for (int64_t i = begin; i < end; i++) {
        cc1d_tile tile = tile_at(&r->tiling, i);
        r->kernels.update(&r->args, &tile);
    }
}

/* Whether the update kernels take these arguments, if the ISA has one. */
static bool one_pass(const cc1d_args *args)
{
    const causal_conv1d_tensor *const tensors[] = {&args->x, &args->out}, *states = &args->states;
    int64_t length = states->size[2], width = args->weight.size[1];
    return args->x.size[2] == 1 && !cc1d_present(&args->cache_seqlens) &&
           common_layout(tensors, 2) == CC1D_DIM && length > 0 &&
           (length == width || length == width - 1) &&
           (states->stride[1] == 1 || ((states->stride[2] == 1 || length == 1) &&
                                       (states->stride[1] == length || states->size[1] == 1)));
}

causal_conv1d_status cc1d_cpu_update(const cc1d_isa *isa, const causal_conv1d_update_args *args,
                                     const causal_conv1d_threads *threads)
{
    run r = {.args = {.x = args->x,
                      .weight = args->weight,
                      .bias = args->bias,
                      .states = args->conv_state,
                      .cache_seqlens = args->cache_seqlens,
                      .conv_state_indices = args->conv_state_indices,
                      .out = args->out,
                      .silu = args->silu}};
    if (cc1d_is_empty(&args->x)) return CAUSAL_CONV1D_OK; /* no state moves */
    if (one_pass(&r.args)) {
        r.kernels = choose(isa, CC1D_DIM, &r.args);
        if (r.kernels.update) {
            make_tiling(&r.tiling, &r.args, CC1D_DIM, update_cutting, 0);
            cc1d_for_range(threads, r.tiling.spans * r.tiling.dim_tiles, tile_grain(&r),
                           update_tiles, &r);
            return CAUSAL_CONV1D_OK;
        }
    }
    const bool ok = run_forward(&r, isa, threads);
    if (ok) cc1d_move_states(&r.args, &args->conv_state, threads);
    end_run(&r);
    return ok ? CAUSAL_CONV1D_OK : CAUSAL_CONV1D_OUT_OF_MEMORY;
}

causal_conv1d_status cc1d_cpu_varlen_states(const causal_conv1d_varlen_states_args *args,
                                            const causal_conv1d_threads *threads)
{
    run r = {.args = {.x = args->x, .cu_seqlens = args->cu_seqlens}};
    const bool ok = take_cuts(&r);
    if (ok) cc1d_move_states(&r.args, &args->states, threads);
    end_run(&r);
    return ok ? CAUSAL_CONV1D_OK : CAUSAL_CONV1D_OUT_OF_MEMORY;
}

typedef struct reduction {
    const run *run;
    const causal_conv1d_tensor *dweight, *dbias;
} reduction;

/* Second pass: dweight and dbias of channels [begin, end), the partial sums in their order. */
static void reduce_channels(int64_t begin, int64_t end, void *context)
{
    const reduction *reduce = context;
    const run *r = reduce->run;
    const causal_conv1d_tensor *dw = reduce->dweight, *db = reduce->dbias;
    int64_t dim = r->tiling.dim, width = dw->size[1];
    bool f64 = r->args.x.dtype == CAUSAL_CONV1D_FLOAT64;
    for (int64_t row = 0; row < width + cc1d_present(db); row++)
        for (int64_t block = begin; block < end; block += 64) {
            double sum[64] = {0};
            int64_t n = min64(64, end - block);
            for (int64_t p = 0; p < r->tiling.spans; p++) {
                const char *partial = r->partials + p * r->partial_bytes;
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

causal_conv1d_status cc1d_cpu_backward(const cc1d_isa *isa, const causal_conv1d_backward_args *args,
                                       const causal_conv1d_threads *threads)
{
    run r = {.args = {.x = args->x,
                      .weight = args->weight,
                      .bias = args->bias,
                      .seq_idx = args->seq_idx,
                      .cu_seqlens = args->cu_seqlens,
                      .states = args->initial_states,
                      .dout = args->dout,
                      .dfinal_states = args->dfinal_states,
                      .dx = args->dx,
                      .dinitial_states = args->dinitial_states,
                      .silu = args->silu}};
    const causal_conv1d_tensor *const same_layout[] = {&r.args.x, &r.args.dout, &r.args.dx};
    int64_t bytes = 0;
    /* dweight and dbias of nothing are 0, the sums of no part. */
    bool ok = take_cuts(&r),
         nothing = cc1d_is_empty(&args->x) &&
                   (!cc1d_present(&args->dinitial_states) || cc1d_is_empty(&args->dinitial_states));
    r.tiling.dim = args->x.size[1];
    if (!nothing) ok = ok && begin_run(&r, isa, same_layout, 3, backward_cutting, threads);
    r.partial_bytes = (args->weight.size[1] + 1) * r.tiling.dim *
                      (args->x.dtype == CAUSAL_CONV1D_FLOAT64 ? 8 : 4);
    ok = ok && !__builtin_mul_overflow(r.partial_bytes, r.tiling.spans, &bytes) &&
         (uint64_t)bytes < SIZE_MAX && (r.partials = malloc((size_t)bytes + 1));
    if (ok) {
        reduction reduce = {&r, &args->dweight, &args->dbias};
        cc1d_for_range(threads, r.tiling.spans * r.tiling.dim_tiles, tile_grain(&r), run_tiles, &r);
        cc1d_for_range(threads, r.tiling.dim, 1024, reduce_channels, &reduce);
        if (!nothing && cc1d_present(&args->cu_seqlens))
            cc1d_clear_padding(&r.args, &args->dx, threads);
    }
    end_run(&r);
    return ok && !r.failed ? CAUSAL_CONV1D_OK : CAUSAL_CONV1D_OUT_OF_MEMORY;
}
