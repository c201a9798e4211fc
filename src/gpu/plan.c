/* Plans a call on a GPU: which kernels, in which variant, with which arguments, over which grid. */
#include "plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../core/arithmetic.h"
#include "../core/error.h"
#include "../core/tensor.h"

typedef causal_conv1d_tensor tensor;

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const char *const kernels[] = {
    [CC1D_FORWARD_TIME] = "forward_time",
    [CC1D_FORWARD_DIM] = "forward_dim",
    [CC1D_BACKWARD_TIME] = "backward_time",
    [CC1D_BACKWARD_DIM] = "backward_dim",
    [CC1D_BACKWARD_GENERAL] = "backward_general",
    [CC1D_SUMS_GENERAL] = "sums_general",
    [CC1D_BACKWARD_STATES] = "backward_states",
    [CC1D_REDUCE] = "reduce",
    [CC1D_STATES] = "states",
    [CC1D_UPDATE] = "update",
};

const char *cc1d_kernel_name(const cc1d_variant *variant)
{
    return kernels[variant->kernel];
}

void cc1d_preamble(const cc1d_variant *v, char *text, size_t size)
{
    static const char *const types[] = {[CAUSAL_CONV1D_NONE] = "float",
                                        [CAUSAL_CONV1D_FLOAT32] = "float",
                                        [CAUSAL_CONV1D_FLOAT16] = "half",
                                        [CAUSAL_CONV1D_BFLOAT16] = "bfloat",
                                        [CAUSAL_CONV1D_FLOAT64] = "double"};
    static const char *const options[] = {"SILU",    "HAS_BIAS", "SEQ_IDX", "PACKED",
                                          "INITIAL", "FINAL",    "RING",    "INDEXED"};
    int n = snprintf(
        text, size,
        "#define KERNEL %d\n#define VALUE %s\n#define WEIGHT %s\n#define BIAS %s\n"
        "#define INDEX %s\n#define ID %s\n#define ROW %s\n#define WIDTH %d\n#define VECTOR %d\n"
        "#define ROWS %d\n#define SINGLE %d\n",
        v->kernel, types[v->value], types[v->weight], types[v->bias],
        v->wide & CC1D_WIDE_OFFSETS ? "long" : "int", v->wide & CC1D_WIDE_IDS ? "long" : "int",
        v->wide & CC1D_WIDE_ROWS ? "long" : "int", v->width, v->vector, v->rows, v->single);
    for (int i = 0; i < 8; i++)
        n += snprintf(text + n, size - (size_t)n, "#define %s %d\n", options[i],
                      v->options >> i & 1);
    assert(n > 0 && (size_t)n < size);
}

/* ---- Pieces of a plan ----------------------------------------------------------------- */

static int64_t reach(const tensor *t)
{
    int64_t last = 0;
    if (!cc1d_present(t) || cc1d_is_empty(t)) return 0;
    for (int i = 0; i < t->ndim; i++) last += (t->size[i] - 1) * llabs(t->stride[i]);
    return last;
}

/* Which width the offsets into these tensors need; kernels step a little beyond the ends. */
static uint8_t wide_offsets(const tensor *const *tensors, int count)
{
    for (int i = 0; i < count; i++)
        if (reach(tensors[i]) >= (INT64_C(1) << 31) - (1 << 20)) return CC1D_WIDE_OFFSETS;
    return 0;
}

static void add_tensor(cc1d_launch *l, const tensor *t, const tensor *in_place_of_none)
{
    assert(l->slot_count < CC1D_SLOTS);
    l->slots[l->slot_count++] = (cc1d_slot){cc1d_present(t) ? t : in_place_of_none, 0};
}

static void add_number(cc1d_launch *l, int64_t number)
{
    assert(l->slot_count < CC1D_SLOTS);
    l->slots[l->slot_count++] = (cc1d_slot){NULL, number};
}

static void add_strides(cc1d_launch *l, const tensor *t)
{
    for (int i = 0; i < 3; i++) add_number(l, t->stride[i]);
}

static void set_grid(cc1d_launch *l, int64_t x, int64_t y, int64_t z)
{
    l->grid[0] = (uint64_t)x, l->grid[1] = (uint64_t)y, l->grid[2] = (uint64_t)z;
}

static void set_group(cc1d_launch *l, int64_t x, int64_t y)
{
    l->group[0] = (uint64_t)x, l->group[1] = (uint64_t)y, l->group[2] = 1;
}

/* A full group over the first two dimensions of the grid, as wide as the first needs. */
static void set_flat_group(cc1d_launch *l, int64_t most)
{
    int64_t x = CC1D_SIMD, y = 1;
    while (x < most && x < (int64_t)l->grid[0]) x *= 2;
    while (x / 2 >= (int64_t)l->grid[0] && x > 1) x /= 2;
    while (x * y * 2 <= most && y < (int64_t)l->grid[1]) y *= 2;
    set_group(l, x, y);
}

static bool has_threads(const cc1d_launch *l)
{
    return l->grid[0] > 0 && l->grid[1] > 0 && l->grid[2] > 0;
}

/* Positions in a grid have 32 bits. */
static causal_conv1d_status launch(const cc1d_gpu *gpu, const tensor *x,
                                   const cc1d_launch *launches, int count,
                                   causal_conv1d_error *error)
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < 3; j++)
            if (launches[i].grid[j] > UINT32_MAX - CC1D_GROUP)
                return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                                 "Expected sizes that a GPU's grid holds, got %llu threads along "
                                 "one dimension",
                                 (unsigned long long)launches[i].grid[j]);
    return gpu->run(x, launches, count, error);
}

/* ---- Layouts -------------------------------------------------------------------------- */

/* Which of its dimensions, 1 or 2, neighbouring threads of a call take: the contiguous one. */
static int fast_dimension(const tensor *x)
{
    if (x->size[2] == 1) return 1;
    if (x->size[1] == 1) return 2;
    return llabs(x->stride[1]) < llabs(x->stride[2]) ? 1 : 2;
}

/* Whether vectors of n elements along dimension `fast` of t all lie on their size. */
static bool takes_vectors(const tensor *t, int fast, int64_t n)
{
    if (t->stride[fast] != 1 || t->size[fast] % n) return false;
    if ((uintptr_t)t->data % (uintptr_t)(n * (int64_t)cc1d_dtype_size(t->dtype))) return false;
    for (int i = 0; i < 3; i++)
        if (i != fast && t->size[i] > 1 && t->stride[i] % n) return false;
    return true;
}

/* Elements of an access to all of the tensors: n if they take vectors, else 1. */
static uint8_t vector_of(const tensor *const *tensors, int count, int fast, int64_t n)
{
    for (int i = 0; i < count; i++)
        if (!takes_vectors(tensors[i], fast, n)) return 1;
    return (uint8_t)n;
}

static bool is_general(int64_t width)
{
    return width < CC1D_GPU_MIN_WIDTH || width > CC1D_GPU_MAX_WIDTH;
}

/* The longest of longest, longest / 2.. times per thread that leaves `threads` threads or more: as
 * many as an H100 was seen to need. */
static int64_t run_of(int64_t elements, int64_t shortest, int64_t longest, int64_t threads)
{
    int64_t run = longest;
    while (run > shortest && elements / run < threads) run /= 2;
    return run;
}

/* The rows that a thread has in flight: no more than it has in all, nor than its registers hold. */
static int64_t rows_of(int64_t most, int64_t run)
{
    if (most > 16) most = 16;
    return most < run ? most : run;
}

/* ---- Forward -------------------------------------------------------------------------- */

static const tensor *ids_of(const tensor *seq_idx, const tensor *cu_seqlens)
{
    return cc1d_present(seq_idx) ? seq_idx : cu_seqlens;
}

/* Over the batch, then the time; cu_seqlens has no batch. */
static void add_ids_strides(cc1d_launch *l, const tensor *seq_idx, const tensor *cu_seqlens)
{
    bool packed = cc1d_present(cu_seqlens);
    add_number(l, packed ? 0 : seq_idx->stride[0]);
    add_number(l, packed ? cu_seqlens->stride[0] : seq_idx->stride[1]);
}

static uint8_t options_of(bool silu, const tensor *bias, const tensor *seq_idx,
                          const tensor *cu_seqlens, const tensor *initial)
{
    return (uint8_t)((silu ? CC1D_SILU : 0) | (cc1d_present(bias) ? CC1D_HAS_BIAS : 0) |
                     (cc1d_present(seq_idx) ? CC1D_SEQ_IDX : 0) |
                     (cc1d_present(cu_seqlens) ? CC1D_PACKED : 0) |
                     (cc1d_present(initial) && !cc1d_is_empty(initial) ? CC1D_INITIAL : 0));
}

static uint8_t wide_ids(const tensor *ids)
{
    return ids->dtype == CAUSAL_CONV1D_INT64 ? CC1D_WIDE_IDS : 0;
}

/* `final` is absent, or the final states. */
static cc1d_launch plan_forward(const cc1d_tuning *tuning, const causal_conv1d_forward_args *a,
                                const tensor *final)
{
    const tensor *x = &a->x, *ids = ids_of(&a->seq_idx, &a->cu_seqlens);
    const tensor *const all[] = {x, &a->out, &a->initial_states, final, ids, &a->weight, &a->bias};
    const tensor *const moved[] = {x, &a->out};
    const int64_t width = a->weight.size[1], size = (int64_t)cc1d_dtype_size(x->dtype);
    bool general = is_general(width);
    int fast = general ? 2 : fast_dimension(x);
    int64_t bytes = fast == 1 ? tuning->forward_bytes[size == 2] : 16;
    int64_t vector = general ? 1 : vector_of(moved, 2, fast, bytes / size), rows = 1;
    int64_t run = run_of(x->size[0] * x->size[1] / vector * x->size[2], 4, 32, 1 << 16);
    if (fast == 1) {
        rows = rows_of(tuning->forward_flight / size / vector, run);
    } else if (!general && x->size[2] % (tuning->time_rows * CC1D_SIMD * vector) == 0) {
        rows = tuning->time_rows; /* every row has as many */
    }
    cc1d_launch l = {.variant = {.kernel = fast == 1 ? CC1D_FORWARD_DIM : CC1D_FORWARD_TIME,
                                 .width = (int32_t)width,
                                 .value = (uint8_t)x->dtype,
                                 .weight = (uint8_t)a->weight.dtype,
                                 .bias = (uint8_t)a->bias.dtype,
                                 .vector = (uint8_t)vector,
                                 .rows = (uint8_t)rows,
                                 .options = options_of(a->silu, &a->bias, &a->seq_idx,
                                                       &a->cu_seqlens, &a->initial_states),
                                 .wide = wide_offsets(all, COUNT(all)) | wide_ids(ids)}};
    if (cc1d_present(final)) l.variant.options |= CC1D_FINAL;
    add_tensor(&l, x, x);
    add_tensor(&l, &a->weight, x);
    add_tensor(&l, &a->bias, x);
    add_tensor(&l, ids, x);
    add_tensor(&l, &a->initial_states, x);
    add_tensor(&l, &a->out, x);
    add_tensor(&l, final, x);
    add_number(&l, x->size[1]);
    add_number(&l, x->size[2]);
    add_number(&l, cc1d_sequences(x, &a->cu_seqlens));
    add_number(&l, run);
    add_strides(&l, x);
    add_strides(&l, &a->out);
    add_number(&l, a->bias.stride[0]);
    add_ids_strides(&l, &a->seq_idx, &a->cu_seqlens);
    add_strides(&l, &a->initial_states);
    add_strides(&l, final);
    if (fast == 1)
        set_grid(&l, x->size[1] / vector, ceil_div(x->size[2], run), x->size[0]);
    else
        set_grid(&l, x->size[2] / vector / rows, x->size[1], x->size[0]);
    set_flat_group(&l, fast == 1 ? CC1D_GROUP / 2 : CC1D_GROUP); /* also measured there */
    return l;
}

/* `length` columns of `states` after x and the initial states. */
static cc1d_launch plan_states(const tensor *x, const tensor *cu_seqlens, const tensor *initial,
                               const tensor *states)
{
    const tensor *const all[] = {x, cu_seqlens, initial, states};
    cc1d_launch l = {
        .variant = {.kernel = CC1D_STATES,
                    .width = CC1D_GPU_MIN_WIDTH,
                    .value = (uint8_t)x->dtype,
                    .vector = 1,
                    .rows = 1,
                    .options = options_of(false, &(tensor){0}, &(tensor){0}, cu_seqlens, initial),
                    .wide = wide_offsets(all, COUNT(all)) | wide_ids(cu_seqlens)}};
    add_tensor(&l, x, x);
    add_tensor(&l, cu_seqlens, x);
    add_tensor(&l, initial, x);
    add_tensor(&l, states, x);
    add_number(&l, x->size[1]);
    add_number(&l, x->size[2]);
    add_number(&l, states->size[2]);
    add_strides(&l, x);
    add_number(&l, cu_seqlens->stride[0]);
    add_strides(&l, initial);
    add_strides(&l, states);
    add_number(&l, states->size[0]);
    set_grid(&l, states->size[2] > 0 ? x->size[1] : 0, states->size[0], 1);
    set_flat_group(&l, CC1D_SIMD);
    return l;
}

causal_conv1d_status cc1d_gpu_forward(const cc1d_gpu *gpu, const causal_conv1d_forward_args *a,
                                      causal_conv1d_error *error)
{
    const tensor *final = &a->final_states, none = {0};
    const bool empty = cc1d_is_empty(&a->x);
    /* Whoever computes the end of a row can write its final state, if nobody reads it there. */
    bool together =
        !cc1d_present(&a->cu_seqlens) && !empty && final->data != a->initial_states.data;
    cc1d_launch launches[2];
    int count = 0;
    if (!empty) launches[count++] = plan_forward(&gpu->tuning, a, together ? final : &none);
    if (cc1d_present(final) && !together) {
        launches[count] = plan_states(&a->x, &a->cu_seqlens, &a->initial_states, final);
        count += has_threads(&launches[count]);
    }
    return launch(gpu, &a->x, launches, count, error);
}

causal_conv1d_status cc1d_gpu_varlen_states(const cc1d_gpu *gpu,
                                            const causal_conv1d_varlen_states_args *a,
                                            causal_conv1d_error *error)
{
    cc1d_launch l = plan_states(&a->x, &a->cu_seqlens, &(tensor){0}, &a->states);
    return launch(gpu, &a->x, &l, has_threads(&l), error);
}

/* ---- Backward ------------------------------------------------------------------------- */

/* The launch of a kernel with the arguments of backward, `to` in the place of dx. */
static cc1d_launch plan_backward(const causal_conv1d_backward_args *a, int kernel, int64_t vector,
                                 int64_t rows, int64_t run, const tensor *to, const tensor *partial)
{
    const tensor *x = &a->x, *ids = ids_of(&a->seq_idx, &a->cu_seqlens);
    const tensor *const all[] = {x,
                                 &a->dout,
                                 &a->dx,
                                 &a->seq_idx,
                                 &a->initial_states,
                                 &a->dfinal_states,
                                 &a->cu_seqlens,
                                 &a->weight,
                                 &a->bias,
                                 &a->dinitial_states,
                                 partial};
    cc1d_launch l = {.variant = {.kernel = (uint8_t)kernel,
                                 .width = (int32_t)a->weight.size[1],
                                 .value = (uint8_t)x->dtype,
                                 .weight = (uint8_t)a->weight.dtype,
                                 .bias = (uint8_t)a->bias.dtype,
                                 .vector = (uint8_t)vector,
                                 .rows = (uint8_t)rows,
                                 .options = options_of(a->silu, &a->bias, &a->seq_idx,
                                                       &a->cu_seqlens, &a->initial_states),
                                 .wide = wide_offsets(all, COUNT(all)) | wide_ids(ids)}};
    if (cc1d_present(&a->dfinal_states) && !cc1d_is_empty(&a->dfinal_states))
        l.variant.options |= CC1D_FINAL;
    add_tensor(&l, x, x);
    add_tensor(&l, &a->weight, x);
    add_tensor(&l, &a->bias, x);
    add_tensor(&l, ids, x);
    add_tensor(&l, &a->initial_states, x);
    add_tensor(&l, &a->dout, x);
    add_tensor(&l, &a->dfinal_states, x);
    add_tensor(&l, to, x);
    add_tensor(&l, partial, x);
    add_number(&l, x->size[1]);
    add_number(&l, x->size[2]);
    add_number(&l, cc1d_sequences(x, &a->cu_seqlens));
    add_number(&l, run);
    add_strides(&l, x);
    add_strides(&l, &a->dout);
    add_strides(&l, to);
    add_number(&l, a->bias.stride[0]);
    add_ids_strides(&l, &a->seq_idx, &a->cu_seqlens);
    add_strides(&l, &a->initial_states);
    add_strides(&l, &a->dfinal_states);
    return l;
}

static cc1d_launch plan_reduce(const causal_conv1d_backward_args *a, const tensor *partial,
                               int64_t parts)
{
    const tensor *const all[] = {partial, &a->dweight, &a->dbias};
    int64_t dim = a->x.size[1];
    cc1d_launch l = {.variant = {.kernel = CC1D_REDUCE,
                                 .width = (int32_t)a->weight.size[1],
                                 .value = CAUSAL_CONV1D_FLOAT32,
                                 .weight = (uint8_t)a->dweight.dtype,
                                 .bias = (uint8_t)a->dbias.dtype,
                                 .vector = 1,
                                 .rows = 1,
                                 .options = cc1d_present(&a->dbias) ? CC1D_HAS_BIAS : 0,
                                 .wide = wide_offsets(all, COUNT(all))}};
    add_tensor(&l, partial, &a->dweight);
    add_tensor(&l, &a->dweight, NULL);
    add_tensor(&l, &a->dbias, &a->dweight);
    add_number(&l, dim);
    add_number(&l, parts);
    add_number(&l, a->dweight.stride[0]);
    add_number(&l, a->dweight.stride[1]);
    add_number(&l, a->dbias.stride[0]);
    set_grid(&l, ceil_div(dim, CC1D_SIMD) * CC1D_SIMD, CC1D_REDUCE_SLICES, a->weight.size[1] + 1);
    set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES);
    return l;
}

causal_conv1d_status cc1d_gpu_backward(const cc1d_gpu *gpu, const causal_conv1d_backward_args *a,
                                       const cc1d_workspace *workspace, causal_conv1d_error *error)
{
    const tensor *x = &a->x;
    const tensor *const moved[] = {x, &a->dout, &a->dx};
    const int64_t batch = x->size[0], dim = x->size[1], seqlen = x->size[2];
    const int64_t size = (int64_t)cc1d_dtype_size(x->dtype), width = a->weight.size[1];
    bool general = is_general(width), empty = cc1d_is_empty(x);
    int fast = fast_dimension(x);
    int64_t most = fast == 1 ? gpu->tuning.backward_channels : 16 / size;
    int64_t vector = general ? 1 : vector_of(moved, 3, fast, most);
    int64_t block = CC1D_SIMD * vector, rows = 1, run, segments, parts;
    if (general || empty) {
        run = 64;
    } else if (fast == 1) {
        /* At least one run for each slice of a group. */
        int64_t longest = gpu->tuning.backward_run;
        while (longest > 4 && longest * CC1D_REDUCE_SLICES > seqlen) longest /= 2;
        run = run_of(batch * dim / vector * seqlen, 4, longest, 1 << 16);
        rows = rows_of(gpu->tuning.backward_flight / size / vector, run);
    } else {
        run = block * run_of(batch * dim * ceil_div(seqlen, block), 1, 32, 1 << 12);
    }
    segments = empty ? 0 : ceil_div(seqlen, run);
    if (!general && fast == 1) segments = ceil_div(segments, CC1D_REDUCE_SLICES);
    parts = empty ? 0 : batch * segments;

    tensor partial = {0};
    causal_conv1d_status status = CAUSAL_CONV1D_OK;
    if (parts > 0) status = workspace->allocate(x, parts * (width + 1) * dim, &partial, error);
    if (status != CAUSAL_CONV1D_OK) return status;

    cc1d_launch launches[4];
    int count = 0;
    if (!empty) {
        cc1d_launch *l = &launches[count++];
        if (general) {
            *l = plan_backward(a, CC1D_BACKWARD_GENERAL, 1, 1, run, &a->dx, &partial);
            set_grid(l, seqlen, dim, batch);
            set_flat_group(l, CC1D_GROUP);
            l = &launches[count++];
            *l = plan_backward(a, CC1D_SUMS_GENERAL, 1, 1, run, &a->dx, &partial);
            set_grid(l, dim, width + 1, parts);
            set_flat_group(l, CC1D_SIMD);
        } else if (fast == 1) {
            *l = plan_backward(a, CC1D_BACKWARD_DIM, vector, rows, run, &a->dx, &partial);
            set_grid(l, ceil_div(dim / vector, CC1D_SIMD) * CC1D_SIMD,
                     segments * CC1D_REDUCE_SLICES, batch);
            set_group(l, CC1D_SIMD, CC1D_REDUCE_SLICES);
        } else {
            *l = plan_backward(a, CC1D_BACKWARD_TIME, vector, 1, run, &a->dx, &partial);
            set_grid(l, CC1D_SIMD, dim, parts);
            set_group(l, CC1D_SIMD, 4);
        }
    }
    if (cc1d_present(&a->dinitial_states) && !cc1d_is_empty(&a->dinitial_states)) {
        cc1d_launch *l = &launches[count++];
        *l = plan_backward(a, CC1D_BACKWARD_STATES, 1, 1, run, &a->dinitial_states, &partial);
        set_grid(l, dim, a->dinitial_states.size[0], 1);
        set_flat_group(l, CC1D_SIMD);
    }
    launches[count] = plan_reduce(a, &partial, parts);
    count += has_threads(&launches[count]);
    status = launch(gpu, x, launches, count, error);
    if (parts > 0) workspace->release(&partial);
    return status;
}

/* ---- Update --------------------------------------------------------------------------- */

causal_conv1d_status cc1d_gpu_update(const cc1d_gpu *gpu, const causal_conv1d_update_args *a,
                                     causal_conv1d_error *error)
{
    const tensor *x = &a->x, *ring = &a->cache_seqlens, *indices = &a->conv_state_indices;
    const tensor *const all[] = {x, &a->out, &a->conv_state, &a->weight, &a->bias, ring, indices};
    if (cc1d_is_empty(x)) return CAUSAL_CONV1D_OK; /* the states stay as they are */
    cc1d_launch l = {.variant = {.kernel = CC1D_UPDATE,
                                 .width = (int32_t)a->weight.size[1],
                                 .value = (uint8_t)x->dtype,
                                 .weight = (uint8_t)a->weight.dtype,
                                 .bias = (uint8_t)a->bias.dtype,
                                 .vector = 1,
                                 .rows = 1,
                                 .options = options_of(a->silu, &a->bias, &(tensor){0},
                                                       &(tensor){0}, &(tensor){0}),
                                 .wide = wide_offsets(all, COUNT(all)) | wide_ids(ring)}};
    if (indices->dtype == CAUSAL_CONV1D_INT64) l.variant.wide |= CC1D_WIDE_ROWS;
    const int64_t columns = a->conv_state.size[2];
    const int64_t bytes = columns * (int64_t)cc1d_dtype_size(x->dtype);
    if (x->size[2] == 1 && !cc1d_present(ring) && columns <= 8 && !is_general(l.variant.width)) {
        l.variant.single = (uint8_t)columns;
        if ((bytes == 8 || bytes == 16) && takes_vectors(&a->conv_state, 2, columns))
            l.variant.vector = (uint8_t)columns;
    }
    if (cc1d_present(ring)) l.variant.options |= CC1D_RING;
    if (cc1d_present(indices)) l.variant.options |= CC1D_INDEXED;
    add_tensor(&l, x, x);
    add_tensor(&l, &a->weight, x);
    add_tensor(&l, &a->bias, x);
    add_tensor(&l, &a->conv_state, x);
    add_tensor(&l, ring, x);
    add_tensor(&l, indices, x);
    add_tensor(&l, &a->out, x);
    add_number(&l, x->size[1]);
    add_number(&l, x->size[2]);
    add_number(&l, a->conv_state.size[2]);
    add_number(&l, a->conv_state.size[0]);
    add_strides(&l, x);
    add_strides(&l, &a->out);
    add_strides(&l, &a->conv_state);
    add_number(&l, a->bias.stride[0]);
    add_number(&l, ring->stride[0]);
    add_number(&l, indices->stride[0]);
    set_grid(&l, x->size[1], x->size[0], 1);
    set_group(&l, 4 * CC1D_SIMD, 1);
    return launch(gpu, x, &l, 1, error);
}
