/* Plans a call on a GPU: which kernels, in which variant, with which arguments, over which grid. */
#include "plan.h"

#include <stdlib.h>

#include "../core/arithmetic.h"
#include "../core/error.h"
#include "../core/tensor.h"

typedef causal_conv1d_tensor tensor;

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

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

/* Whether a width has no registers for its taps. */
static bool is_any_width(int64_t width)
{
    return width < CC1D_GPU_MIN_WIDTH || width > CC1D_GPU_MAX_WIDTH;
}

/* Whether forward has kernels for a width whose taps are not in registers. */
static bool is_wide(int64_t width)
{
    return width > CC1D_GPU_MAX_WIDTH && width <= CC1D_GPU_WIDE_WIDTH;
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

/* ---- Forward and backward ------------------------------------------------------------- */

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

/* The arguments that forward and backward share; `strided` are all tensors of the call that kernels
 * step through. */
typedef struct call {
    const tensor *x, *weight, *bias, *seq_idx, *cu_seqlens, *initial;
    bool silu;
    const tensor *const *strided;
    int strided_count;
} call;

/* A launch with the slots of CC1D_CALL_SLOTS set. */
static cc1d_launch plan_call(const call *a, int kernel, int slot_count, int64_t vector,
                             int64_t rows, int64_t run)
{
    const bool packed = cc1d_present(a->cu_seqlens);
    const tensor *ids = packed ? a->cu_seqlens : a->seq_idx;
    cc1d_launch l = cc1d_launch_of(
        (cc1d_variant){.kernel = (uint8_t)kernel,
                       .width = (int32_t)a->weight->size[1],
                       .value = (uint8_t)a->x->dtype,
                       .weight = (uint8_t)a->weight->dtype,
                       .bias = (uint8_t)a->bias->dtype,
                       .vector = (uint8_t)vector,
                       .rows = (uint8_t)rows,
                       .options =
                           options_of(a->silu, a->bias, a->seq_idx, a->cu_seqlens, a->initial),
                       .wide = cc1d_wide_offsets(a->strided, a->strided_count) | wide_ids(ids)},
        slot_count);
    cc1d_set_tensor(&l, CC1D_CALL_x, a->x, a->x);
    cc1d_set_tensor(&l, CC1D_CALL_weight, a->weight, a->x);
    cc1d_set_tensor(&l, CC1D_CALL_bias, a->bias, a->x);
    cc1d_set_tensor(&l, CC1D_CALL_ids, ids, a->x);
    cc1d_set_tensor(&l, CC1D_CALL_initial, a->initial, a->x);
    cc1d_set_number(&l, CC1D_CALL_dim, a->x->size[1]);
    cc1d_set_number(&l, CC1D_CALL_seqlen, a->x->size[2]);
    cc1d_set_number(&l, CC1D_CALL_sequences, cc1d_sequences(a->x, a->cu_seqlens));
    cc1d_set_number(&l, CC1D_CALL_run, run);
    cc1d_set_strides(&l, CC1D_CALL_x_b, a->x);
    cc1d_set_number(&l, CC1D_CALL_bias_d, a->bias->stride[0]);
    cc1d_set_number(&l, CC1D_CALL_ids_b, packed ? 0 : ids->stride[0]);
    cc1d_set_number(&l, CC1D_CALL_ids_t, ids->stride[packed ? 0 : 1]);
    cc1d_set_strides(&l, CC1D_CALL_initial_n, a->initial);
    return l;
}

/* ---- Forward -------------------------------------------------------------------------- */

/* `final` is absent, or the final states. */
static cc1d_launch plan_forward(const cc1d_tuning *tuning, const causal_conv1d_forward_args *a,
                                const tensor *final)
{
    const tensor *x = &a->x;
    const tensor *const all[] = {x,           &a->out,        &a->initial_states, final,
                                 &a->seq_idx, &a->cu_seqlens, &a->weight,         &a->bias};
    const tensor *const moved[] = {x, &a->out};
    const int64_t width = a->weight.size[1], size = (int64_t)cc1d_dtype_size(x->dtype);
    const int small = size == 2;
    const int64_t batch = x->size[0], dim = x->size[1], seqlen = x->size[2];
    bool wide = is_wide(width), any_width = is_any_width(width) && !wide;
    int fast = any_width ? 2 : fast_dimension(x);
    int64_t bytes = fast == 1 ? tuning->forward_bytes[small] : 16;
    bool single = any_width || (wide && fast == 1);
    int64_t vector = single ? 1 : vector_of(moved, 2, fast, bytes / size), rows = 1;
    /* With seq_idx a run begins by looking up the ids before it: it is long, whatever is tuned. */
    bool tuned = fast == 1 && !cc1d_present(&a->seq_idx);
    int64_t longest = tuned ? tuning->forward_run[small] : 32;
    int64_t run = run_of(batch * dim / vector * seqlen, 4, longest, 1 << 16);
    if (wide) {
        const int64_t tile = CC1D_WIDE_DIM_SIMDS * CC1D_WIDE_TIMES;
        run = tile * run_of(batch * ceil_div(dim, CC1D_SIMD) * ceil_div(seqlen, tile), 1, 8, 1024);
    } else if (fast == 1) {
        rows = rows_of(tuning->forward_flight[small] / size / vector, run);
    } else if (!any_width && seqlen % (tuning->time_rows * CC1D_SIMD * vector) == 0) {
        rows = tuning->time_rows; /* every row has as many */
    }
    const call c = {x,       &a->weight, &a->bias,  &a->seq_idx, &a->cu_seqlens, &a->initial_states,
                    a->silu, all,        COUNT(all)};
    const int kernels[2][2] = {{CC1D_FORWARD_TIME, CC1D_FORWARD_DIM},
                               {CC1D_FORWARD_WIDE_TIME, CC1D_FORWARD_WIDE_DIM}};
    cc1d_launch l =
        plan_call(&c, kernels[wide][fast == 1], CC1D_FORWARD_SLOT_COUNT, vector, rows, run);
    if (cc1d_present(final)) l.variant.options |= CC1D_FINAL;
    cc1d_set_tensor(&l, CC1D_FORWARD_out, &a->out, x);
    cc1d_set_tensor(&l, CC1D_FORWARD_final_states, final, x);
    cc1d_set_strides(&l, CC1D_FORWARD_out_b, &a->out);
    cc1d_set_strides(&l, CC1D_FORWARD_final_n, final);
    if (wide && fast == 1) {
        cc1d_set_grid(&l, ceil_div(dim, CC1D_SIMD) * CC1D_SIMD,
                      ceil_div(seqlen, run) * CC1D_WIDE_DIM_SIMDS, batch);
        cc1d_set_group(&l, CC1D_SIMD, CC1D_WIDE_DIM_SIMDS);
    } else if (wide) {
        cc1d_set_grid(&l, ceil_div(seqlen, CC1D_SIMD * CC1D_WIDE_TIMES) * CC1D_SIMD, dim, batch);
        cc1d_set_group(&l, CC1D_SIMD, CC1D_WIDE_TIME_SIMDS);
    } else if (fast == 1) {
        cc1d_set_grid(&l, dim / vector, ceil_div(seqlen, run), batch);
        cc1d_set_flat_group(&l, tuned ? tuning->forward_group[small] : CC1D_GROUP / 2);
    } else {
        cc1d_set_grid(&l, seqlen / vector / rows, dim, batch);
        cc1d_set_flat_group(&l, CC1D_GROUP);
    }
    return l;
}

/* `length` columns of `states` after x and the initial states. */
static cc1d_launch plan_states(const tensor *x, const tensor *cu_seqlens, const tensor *initial,
                               const tensor *states)
{
    const tensor *const all[] = {x, cu_seqlens, initial, states};
    const tensor none = {0};
    const bool in_place = cc1d_present(initial) && initial->data == states->data;
    cc1d_launch l = cc1d_launch_of(
        (cc1d_variant){.kernel = CC1D_STATES,
                       .width = CC1D_GPU_MIN_WIDTH,
                       .value = (uint8_t)x->dtype,
                       .vector = 1,
                       .rows = 1,
                       .options =
                           options_of(false, &(tensor){0}, &(tensor){0}, cu_seqlens, initial),
                       .wide = cc1d_wide_offsets(all, COUNT(all)) | wide_ids(cu_seqlens)},
        CC1D_STATES_SLOT_COUNT);
    cc1d_set_tensor(&l, CC1D_STATES_x, x, x);
    cc1d_set_tensor(&l, CC1D_STATES_ids, cu_seqlens, x);
    cc1d_set_tensor(&l, CC1D_STATES_initial, in_place ? &none : initial, x);
    cc1d_set_tensor(&l, CC1D_STATES_states, states, x);
    cc1d_set_number(&l, CC1D_STATES_dim, x->size[1]);
    cc1d_set_number(&l, CC1D_STATES_seqlen, x->size[2]);
    cc1d_set_number(&l, CC1D_STATES_length, states->size[2]);
    cc1d_set_number(&l, CC1D_STATES_sequences, states->size[0]);
    cc1d_set_number(&l, CC1D_STATES_in_place, in_place);
    cc1d_set_strides(&l, CC1D_STATES_x_b, x);
    cc1d_set_number(&l, CC1D_STATES_ids_t, cu_seqlens->stride[0]);
    cc1d_set_strides(&l, CC1D_STATES_initial_n, initial);
    cc1d_set_strides(&l, CC1D_STATES_states_n, states);
    cc1d_set_grid(&l, states->size[2] > 0 ? x->size[1] : 0, states->size[0], 1);
    cc1d_set_flat_group(&l, CC1D_SIMD);
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
        count += cc1d_has_threads(&launches[count]);
    }
    return cc1d_run_launches(gpu, &a->x, launches, count, error);
}

causal_conv1d_status cc1d_gpu_varlen_states(const cc1d_gpu *gpu,
                                            const causal_conv1d_varlen_states_args *a,
                                            causal_conv1d_error *error)
{
    cc1d_launch l = plan_states(&a->x, &a->cu_seqlens, &(tensor){0}, &a->states);
    return cc1d_run_launches(gpu, &a->x, &l, cc1d_has_threads(&l), error);
}

/* ---- Backward ------------------------------------------------------------------------- */

/* The launch of a kernel with the arguments of backward, `to` in the place of dx. */
static cc1d_launch plan_backward(const causal_conv1d_backward_args *a, int kernel, int64_t vector,
                                 int64_t rows, int64_t run, const tensor *to, const tensor *partial)
{
    const tensor *x = &a->x;
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
    const call c = {x,       &a->weight, &a->bias,  &a->seq_idx, &a->cu_seqlens, &a->initial_states,
                    a->silu, all,        COUNT(all)};
    cc1d_launch l = plan_call(&c, kernel, CC1D_BACKWARD_SLOT_COUNT, vector, rows, run);
    if (cc1d_present(&a->dfinal_states) && !cc1d_is_empty(&a->dfinal_states))
        l.variant.options |= CC1D_FINAL;
    cc1d_set_tensor(&l, CC1D_BACKWARD_dout, &a->dout, x);
    cc1d_set_tensor(&l, CC1D_BACKWARD_dfinal, &a->dfinal_states, x);
    cc1d_set_tensor(&l, CC1D_BACKWARD_dx, to, x);
    cc1d_set_tensor(&l, CC1D_BACKWARD_partial, partial, x);
    cc1d_set_strides(&l, CC1D_BACKWARD_dout_b, &a->dout);
    cc1d_set_strides(&l, CC1D_BACKWARD_dfinal_n, &a->dfinal_states);
    cc1d_set_strides(&l, CC1D_BACKWARD_dx_b, to);
    return l;
}

static cc1d_launch plan_reduce(const causal_conv1d_backward_args *a, const tensor *partial,
                               int64_t parts)
{
    const tensor *const all[] = {partial, &a->dweight, &a->dbias};
    int64_t dim = a->x.size[1];
    cc1d_launch l =
        cc1d_launch_of((cc1d_variant){.kernel = CC1D_REDUCE,
                                      .width = (int32_t)a->weight.size[1],
                                      .value = CAUSAL_CONV1D_FLOAT32,
                                      .weight = (uint8_t)a->dweight.dtype,
                                      .bias = (uint8_t)a->dbias.dtype,
                                      .vector = 1,
                                      .rows = 1,
                                      .options = cc1d_present(&a->dbias) ? CC1D_HAS_BIAS : 0,
                                      .wide = cc1d_wide_offsets(all, COUNT(all))},
                       CC1D_REDUCE_SLOT_COUNT);
    cc1d_set_tensor(&l, CC1D_REDUCE_partial, partial, &a->weight);
    cc1d_set_tensor(&l, CC1D_REDUCE_dweight, &a->dweight, NULL);
    cc1d_set_tensor(&l, CC1D_REDUCE_dbias, &a->dbias, &a->weight);
    cc1d_set_number(&l, CC1D_REDUCE_dim, dim);
    cc1d_set_number(&l, CC1D_REDUCE_parts, parts);
    cc1d_set_number(&l, CC1D_REDUCE_dweight_d, a->dweight.stride[0]);
    cc1d_set_number(&l, CC1D_REDUCE_dweight_k, a->dweight.stride[1]);
    cc1d_set_number(&l, CC1D_REDUCE_dbias_d, a->dbias.stride[0]);
    cc1d_set_grid(&l, ceil_div(dim, CC1D_SIMD) * CC1D_SIMD, CC1D_REDUCE_SLICES,
                  a->weight.size[1] + 1);
    cc1d_set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES);
    return l;
}

causal_conv1d_status cc1d_gpu_backward(const cc1d_gpu *gpu, const causal_conv1d_backward_args *a,
                                       const cc1d_workspace *workspace, causal_conv1d_error *error)
{
    const tensor *x = &a->x;
    const tensor *const moved[] = {x, &a->dout, &a->dx};
    const int64_t batch = x->size[0], dim = x->size[1], seqlen = x->size[2];
    const int64_t size = (int64_t)cc1d_dtype_size(x->dtype), width = a->weight.size[1];
    bool any_width = is_any_width(width), empty = cc1d_is_empty(x);
    int fast = fast_dimension(x);
    int64_t most = fast == 1 ? gpu->tuning.backward_channels : 16 / size;
    int64_t vector = any_width ? 1 : vector_of(moved, 3, fast, most);
    int64_t block = CC1D_SIMD * vector, rows = 1, run, segments, parts;
    if (any_width || empty) {
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
    if (!any_width && fast == 1) segments = ceil_div(segments, CC1D_REDUCE_SLICES);
    parts = empty ? 0 : batch * segments;

    tensor partial = {0};
    causal_conv1d_status status = CAUSAL_CONV1D_OK;
    if (parts > 0) status = workspace->allocate(x, parts * (width + 1) * dim, &partial, error);
    if (status != CAUSAL_CONV1D_OK) return status;

    cc1d_launch launches[4];
    int count = 0;
    if (!empty) {
        cc1d_launch *l = &launches[count++];
        if (any_width) {
            *l = plan_backward(a, CC1D_BACKWARD_ANY_WIDTH, 1, 1, run, &a->dx, &partial);
            cc1d_set_grid(l, seqlen, dim, batch);
            cc1d_set_flat_group(l, CC1D_GROUP);
            l = &launches[count++];
            *l = plan_backward(a, CC1D_SUMS_ANY_WIDTH, 1, 1, run, &a->dx, &partial);
            cc1d_set_grid(l, dim, width + 1, parts);
            cc1d_set_flat_group(l, CC1D_SIMD);
        } else if (fast == 1) {
            *l = plan_backward(a, CC1D_BACKWARD_DIM, vector, rows, run, &a->dx, &partial);
            cc1d_set_grid(l, ceil_div(dim / vector, CC1D_SIMD) * CC1D_SIMD,
                          segments * CC1D_REDUCE_SLICES, batch);
            cc1d_set_group(l, CC1D_SIMD, CC1D_REDUCE_SLICES);
        } else {
            *l = plan_backward(a, CC1D_BACKWARD_TIME, vector, 1, run, &a->dx, &partial);
            cc1d_set_grid(l, CC1D_SIMD, dim, parts);
            cc1d_set_group(l, CC1D_SIMD, 4);
        }
    }
    if (cc1d_present(&a->dinitial_states) && !cc1d_is_empty(&a->dinitial_states)) {
        cc1d_launch *l = &launches[count++];
        *l = plan_backward(a, CC1D_BACKWARD_STATES, 1, 1, run, &a->dinitial_states, &partial);
        cc1d_set_grid(l, dim, a->dinitial_states.size[0], 1);
        cc1d_set_flat_group(l, CC1D_SIMD);
    }
    launches[count] = plan_reduce(a, &partial, parts);
    count += cc1d_has_threads(&launches[count]);
    status = cc1d_run_launches(gpu, x, launches, count, error);
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
    cc1d_launch l =
        cc1d_launch_of((cc1d_variant){.kernel = CC1D_UPDATE,
                                      .width = (int32_t)a->weight.size[1],
                                      .value = (uint8_t)x->dtype,
                                      .weight = (uint8_t)a->weight.dtype,
                                      .bias = (uint8_t)a->bias.dtype,
                                      .vector = 1,
                                      .rows = 1,
                                      .options = options_of(a->silu, &a->bias, &(tensor){0},
                                                            &(tensor){0}, &(tensor){0}),
                                      .wide = cc1d_wide_offsets(all, COUNT(all)) | wide_ids(ring)},
                       CC1D_UPDATE_SLOT_COUNT);
    if (indices->dtype == CAUSAL_CONV1D_INT64) l.variant.wide |= CC1D_WIDE_ROWS;
    const int64_t columns = a->conv_state.size[2];
    const int64_t bytes = columns * (int64_t)cc1d_dtype_size(x->dtype);
    if (x->size[2] == 1 && !cc1d_present(ring) && columns <= 8 && !is_any_width(l.variant.width)) {
        l.variant.single = (uint8_t)columns;
        if ((bytes == 8 || bytes == 16) && takes_vectors(&a->conv_state, 2, columns))
            l.variant.vector = (uint8_t)columns;
    }
    if (cc1d_present(ring)) l.variant.options |= CC1D_RING;
    if (cc1d_present(indices)) l.variant.options |= CC1D_INDEXED;
    cc1d_set_tensor(&l, CC1D_UPDATE_x, x, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_weight, &a->weight, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_bias, &a->bias, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_state, &a->conv_state, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_cache_seqlens, ring, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_indices, indices, x);
    cc1d_set_tensor(&l, CC1D_UPDATE_out, &a->out, x);
    cc1d_set_number(&l, CC1D_UPDATE_dim, x->size[1]);
    cc1d_set_number(&l, CC1D_UPDATE_seqlen, x->size[2]);
    cc1d_set_number(&l, CC1D_UPDATE_length, a->conv_state.size[2]);
    cc1d_set_number(&l, CC1D_UPDATE_pool, a->conv_state.size[0]);
    cc1d_set_strides(&l, CC1D_UPDATE_x_b, x);
    cc1d_set_strides(&l, CC1D_UPDATE_out_b, &a->out);
    cc1d_set_strides(&l, CC1D_UPDATE_state_n, &a->conv_state);
    cc1d_set_number(&l, CC1D_UPDATE_bias_d, a->bias.stride[0]);
    cc1d_set_number(&l, CC1D_UPDATE_cache_seqlens_b, ring->stride[0]);
    cc1d_set_number(&l, CC1D_UPDATE_indices_b, indices->stride[0]);
    cc1d_set_grid(&l, x->size[1], x->size[0], 1);
    cc1d_set_group(&l, 4 * CC1D_SIMD, 1);
    return cc1d_run_launches(gpu, x, &l, 1, error);
}
