/* The rules on shape, stride, dtype, device and overlap, with the messages. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#include "../core/error.h"
#include "../core/libtorch.h"
#include "../core/tensor.h"
#include "overlap.h"

#define TRY(call)                                        \
    do {                                                 \
        causal_conv1d_status status_ = (call);           \
        if (status_ != CAUSAL_CONV1D_OK) return status_; \
    } while (0)

/* What holds for every tensor, whatever its part in the call. */
static causal_conv1d_status check_memory(cc1d_named n, causal_conv1d_error *error)
{
    int64_t low, high;
    for (int i = 0; i < n.t->ndim; i++)
        if (n.t->size[i] < 0)
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected sizes >= 0 in %s, got %lld in dimension %d", n.name,
                             (long long)n.t->size[i], i);
    if (!cc1d_extent(n.t, &low, &high))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected sizes and strides of %s that fit 63 bits, got an overflow",
                         n.name);
    if (high > low && !n.t->data)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY, "Expected data in %s, got NULL", n.name);
    const uintptr_t size = cc1d_dtype_size(n.t->dtype), odd = (uintptr_t)n.t->data % size;
    /* On an Apple GPU data is no address. */
    if (high > low && odd && n.t->device != CAUSAL_CONV1D_MPS)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                         "Expected data of %s at a multiple of its element size, %d bytes, got it "
                         "%d past one",
                         n.name, (int)size, (int)odd);
    return CAUSAL_CONV1D_OK;
}

/* What messages call the dtype and the device of a tensor: PyTorch's names. */
static const char *dtype_name(const causal_conv1d_tensor *t)
{
    static const char *const names[] = {"none",    "float32", "float16", "bfloat16",
                                        "float64", "int32",   "int64"};
    if (t->dtype >= CAUSAL_CONV1D_NONE && t->dtype < CAUSAL_CONV1D_OTHER) return names[t->dtype];
    const char *name = t->handle ? cc1d_torch_dtype_name(t->handle) : NULL;
    return name ? name : "another dtype";
}

typedef struct device_name {
    char text[32];
} device_name;

static device_name device_of(const causal_conv1d_tensor *t)
{
    static const char *const names[] = {"cpu", "mps", "cuda"};
    const char *name = NULL;
    device_name d;
    if (t->device >= CAUSAL_CONV1D_CPU && t->device < CAUSAL_CONV1D_OTHER_DEVICE)
        name = names[t->device];
    else if (t->handle)
        name = cc1d_torch_device_name(t->handle);
    /* There is one CPU; devices that are not counted, such as "meta", are at -1. */
    if (name && t->device_index >= (t->device == CAUSAL_CONV1D_CPU))
        snprintf(d.text, sizeof d.text, "%s:%d", name, (int)t->device_index);
    else
        snprintf(d.text, sizeof d.text, "%s", name ? name : "another device");
    return d;
}

static causal_conv1d_status check_tensor(cc1d_named n, causal_conv1d_error *error)
{
    if (n.t->dtype < CAUSAL_CONV1D_FLOAT32 || n.t->dtype > CAUSAL_CONV1D_FLOAT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of dtype float32, float16, bfloat16 or float64, got %s",
                         n.name, dtype_name(n.t));
    return check_memory(n, error);
}

static causal_conv1d_status check_same_device(cc1d_named n, const causal_conv1d_tensor *x,
                                              causal_conv1d_error *error)
{
    if (n.t->device != x->device || n.t->device_index != x->device_index)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected %s on the device of x, %s, got one on %s", n.name,
                         device_of(x).text, device_of(n.t).text);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status check_has_kernels(const causal_conv1d_tensor *x,
                                              causal_conv1d_error *error)
{
    if ((uint32_t)x->device >= CAUSAL_CONV1D_OTHER_DEVICE) /* or what is no value of the enum */
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected x on a CPU, Apple GPU (mps) or NVIDIA GPU (cuda), got one on %s",
                         device_of(x).text);
    if (x->device != CAUSAL_CONV1D_CPU && x->dtype == CAUSAL_CONV1D_FLOAT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected x of dtype float32, float16 or bfloat16 on a GPU, got float64, "
                         "which the CPU takes");
    return CAUSAL_CONV1D_OK;
}

/* A tensor that must have the given shape; what says where the sizes come from. */
static causal_conv1d_status check_shape(cc1d_named n, int ndim, const int64_t *size,
                                        const char *what, causal_conv1d_error *error)
{
    if (n.t->ndim != ndim)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected %dD tensor %s %s, got %dD, which does not match", ndim, n.name,
                         what, n.t->ndim);
    for (int i = 0; i < ndim; i++)
        if (n.t->size[i] != size[i])
            return cc1d_fail(
                error, CAUSAL_CONV1D_BAD_SHAPE,
                "Size %lld of %s in dimension %d does not match: expected %lld, as %s has it",
                (long long)n.t->size[i], n.name, i, (long long)size[i], what);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status check_inputs(const causal_conv1d_tensor *x,
                                         const causal_conv1d_tensor *weight,
                                         const causal_conv1d_tensor *bias,
                                         causal_conv1d_error *error)
{
    if (x->ndim != 3)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected 3D input tensor x (batch, dim, seqlen), got %dD", x->ndim);
    if (weight->ndim == 3 && weight->size[1] == 1)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected 2D tensor weight (dim, width), got 3D (%lld, 1, %lld), as "
                         "nn.Conv1d has it: weight.squeeze(1) is 2D",
                         (long long)weight->size[0], (long long)weight->size[2]);
    if (weight->ndim != 2)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected 2D tensor weight (dim, width), got %dD", weight->ndim);
    TRY(check_tensor((cc1d_named){"x", x}, error));
    TRY(check_tensor((cc1d_named){"weight", weight}, error));
    if (weight->size[0] != x->size[1])
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "weight (dim, width) with dim %lld does not match x (batch, dim, seqlen) "
                         "with dim %lld",
                         (long long)weight->size[0], (long long)x->size[1]);
    if (weight->size[1] < 1)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected weight (dim, width) with width >= 1, got %lld",
                         (long long)weight->size[1]);
    TRY(check_same_device((cc1d_named){"weight", weight}, x, error));
    if (cc1d_present(bias)) {
        if (bias->ndim != 1)
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected 1D tensor bias (dim), got %dD", bias->ndim);
        TRY(check_tensor((cc1d_named){"bias", bias}, error));
        if (bias->size[0] != x->size[1])
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "bias (dim) with dim %lld does not match x (batch, dim, seqlen) with "
                             "dim %lld",
                             (long long)bias->size[0], (long long)x->size[1]);
        TRY(check_same_device((cc1d_named){"bias", bias}, x, error));
    }
    return check_has_kernels(x, error);
}

/* A further tensor beside x: of the given shape, on x's device, if same_dtype of x's dtype. */
static causal_conv1d_status check_beside(cc1d_named n, int ndim, const int64_t *size,
                                         const char *what, const causal_conv1d_tensor *x,
                                         bool same_dtype, causal_conv1d_error *error)
{
    TRY(check_shape(n, ndim, size, what, error));
    TRY(check_tensor(n, error));
    TRY(check_same_device(n, x, error));
    if (same_dtype && n.t->dtype != x->dtype)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of x's dtype, %s, got %s, which does not match", n.name,
                         dtype_name(x), dtype_name(n.t));
    return CAUSAL_CONV1D_OK;
}

/* An optional tensor of indices. */
static causal_conv1d_status check_indices(cc1d_named n, int ndim, const int64_t *size,
                                          const char *what, const causal_conv1d_tensor *x,
                                          causal_conv1d_error *error)
{
    if (!cc1d_present(n.t)) return CAUSAL_CONV1D_OK;
    TRY(check_shape(n, ndim, size, what, error));
    if (n.t->dtype != CAUSAL_CONV1D_INT32 && n.t->dtype != CAUSAL_CONV1D_INT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of dtype int32 or int64, got %s", n.name, dtype_name(n.t));
    TRY(check_memory(n, error));
    return check_same_device(n, x, error);
}

causal_conv1d_status cc1d_check_packed_inputs(const causal_conv1d_tensor *x,
                                              const causal_conv1d_tensor *cu_seqlens,
                                              causal_conv1d_error *error)
{
    const cc1d_named packed = {"cu_seqlens", cu_seqlens};
    if (x->ndim != 3 || x->size[0] != 1)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected x (1, dim, total) beside cu_seqlens, got %dD with batch %lld",
                         x->ndim, (long long)x->size[0]);
    if (cu_seqlens->ndim != 1 || cu_seqlens->size[0] < 1)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected 1D tensor cu_seqlens of sequences + 1 elements, got %dD with "
                         "%lld",
                         cu_seqlens->ndim, (long long)cu_seqlens->size[0]);
    if (!cc1d_present(cu_seqlens))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE, "Expected cu_seqlens, got none");
    TRY(check_tensor((cc1d_named){"x", x}, error));
    TRY(check_has_kernels(x, error));
    TRY(check_indices(packed, 1, cu_seqlens->size, "", x, error));
    /* The kernels of a GPU, whose memory cannot be read here, clamp what they find. */
    if (x->device != CAUSAL_CONV1D_CPU) return CAUSAL_CONV1D_OK;
    int64_t last = 0;
    for (int64_t i = 0; i < cu_seqlens->size[0]; i++) {
        int64_t next = cc1d_index(cu_seqlens, i);
        if (i == 0 ? next != 0 : next < last)
            return cc1d_fail(
                error, CAUSAL_CONV1D_BAD_VALUE,
                "Expected cu_seqlens that begin with 0 and never fall, got %lld at %lld",
                (long long)next, (long long)i);
        last = next;
    }
    if (last > x->size[2])
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                         "The last element of cu_seqlens, %lld, does not match the total of x, "
                         "%lld: it is larger",
                         (long long)last, (long long)x->size[2]);
    return CAUSAL_CONV1D_OK;
}

/* The shape of initial and final states. */
typedef struct state_shape {
    int64_t size[3];
} state_shape;

static state_shape shape_of_states(const causal_conv1d_tensor *x,
                                   const causal_conv1d_tensor *weight,
                                   const causal_conv1d_tensor *cu_seqlens)
{
    return (state_shape){{cc1d_sequences(x, cu_seqlens), x->size[1], weight->size[1] - 1}};
}

/* An optional tensor of the states' shape, of x's dtype. */
static causal_conv1d_status check_states(cc1d_named n, const causal_conv1d_tensor *x,
                                         const causal_conv1d_tensor *weight,
                                         const causal_conv1d_tensor *cu_seqlens,
                                         causal_conv1d_error *error)
{
    if (!cc1d_present(n.t)) return CAUSAL_CONV1D_OK;
    return check_beside(n, 3, shape_of_states(x, weight, cu_seqlens).size,
                        "(batch, dim, width - 1)", x, true, error);
}

/* What forward and backward have in common. */
static causal_conv1d_status
check_sequences(const causal_conv1d_tensor *x, const causal_conv1d_tensor *weight,
                const causal_conv1d_tensor *bias, const causal_conv1d_tensor *seq_idx,
                const causal_conv1d_tensor *cu_seqlens, const causal_conv1d_tensor *initial_states,
                causal_conv1d_error *error)
{
    TRY(check_inputs(x, weight, bias, error));
    const int64_t times[] = {x->size[0], x->size[2]};
    if (cc1d_present(seq_idx) && cc1d_present(cu_seqlens))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_COMBINATION,
                         "Expected seq_idx or cu_seqlens, got both");
    if (cc1d_present(cu_seqlens)) TRY(cc1d_check_packed_inputs(x, cu_seqlens, error));
    TRY(check_indices((cc1d_named){"seq_idx", seq_idx}, 2, times, "(batch, seqlen)", x, error));
    return check_states((cc1d_named){"initial_states", initial_states}, x, weight, cu_seqlens,
                        error);
}

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

causal_conv1d_status cc1d_check_forward_inputs(const causal_conv1d_forward_args *args,
                                               causal_conv1d_error *error)
{
    return check_sequences(&args->x, &args->weight, &args->bias, &args->seq_idx, &args->cu_seqlens,
                           &args->initial_states, error);
}

causal_conv1d_status cc1d_check_backward_inputs(const causal_conv1d_backward_args *args,
                                                causal_conv1d_error *error)
{
    TRY(check_sequences(&args->x, &args->weight, &args->bias, &args->seq_idx, &args->cu_seqlens,
                        &args->initial_states, error));
    TRY(check_beside((cc1d_named){"dout", &args->dout}, 3, args->x.size, "x (batch, dim, seqlen)",
                     &args->x, true, error));
    return check_states((cc1d_named){"dfinal_states", &args->dfinal_states}, &args->x,
                        &args->weight, &args->cu_seqlens, error);
}

/* conv_state_indices on a CPU: below the size of the pool, and none but padding twice. */
static causal_conv1d_status check_rows(const causal_conv1d_tensor *indices,
                                       const causal_conv1d_tensor *state,
                                       causal_conv1d_error *error)
{
    const int64_t rows = indices->size[0], pool = state->size[0];
    /* A bit for each state.  One row cannot meet another, and no row writes an empty state. */
    uint8_t *seen = NULL;
    causal_conv1d_status status = CAUSAL_CONV1D_OK;
    if (rows > 1 && !cc1d_is_empty(state) && !(seen = calloc((size_t)pool / 8 + 1, 1)))
        return cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY,
                         "No memory to check conv_state_indices");
    for (int64_t b = 0; b < rows && status == CAUSAL_CONV1D_OK; b++) {
        const int64_t i = cc1d_index(indices, b);
        if (i >= pool)
            status = cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                               "Expected conv_state_indices below %lld, the size of conv_state, "
                               "got %lld at %lld",
                               (long long)pool, (long long)i, (long long)b);
        else if (i >= 0 && seen) {
            if (seen[i / 8] >> i % 8 & 1)
                status = cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                                   "Expected conv_state_indices without one state twice, got a "
                                   "second %lld at %lld",
                                   (long long)i, (long long)b);
            seen[i / 8] |= (uint8_t)(1 << i % 8);
        }
    }
    free(seen);
    return status;
}

causal_conv1d_status cc1d_check_update_inputs(const causal_conv1d_update_args *args,
                                              causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x, *state = &args->conv_state;
    const causal_conv1d_tensor *indices = &args->conv_state_indices;
    TRY(check_inputs(x, &args->weight, &args->bias, error));
    TRY(check_indices((cc1d_named){"cache_seqlens", &args->cache_seqlens}, 1, x->size, "(batch)", x,
                      error));
    TRY(check_indices((cc1d_named){"conv_state_indices", indices}, 1, x->size, "(batch)", x,
                      error));
    if (state->ndim != 3 || state->size[2] < args->weight.size[1] - 1)
        return cc1d_fail(
            error, CAUSAL_CONV1D_BAD_SHAPE,
            "Expected conv_state (batch, dim, state_len) with state_len >= width - 1 = "
            "%lld, got %dD with %lld",
            (long long)args->weight.size[1] - 1, state->ndim,
            (long long)(state->ndim == 3 ? state->size[2] : 0));
    const int64_t size[] = {cc1d_present(indices) ? state->size[0] : x->size[0], x->size[1],
                            state->size[2]};
    TRY(check_beside((cc1d_named){"conv_state", state}, 3, size, "(batch, dim, state_len)", x, true,
                     error));
    /* The kernels of a GPU, whose memory cannot be read here, skip such an index. */
    if (cc1d_present(indices) && x->device == CAUSAL_CONV1D_CPU)
        TRY(check_rows(indices, state, error));
    const cc1d_named inputs[] = {{"x", x},
                                 {"weight", &args->weight},
                                 {"bias", &args->bias},
                                 {"cache_seqlens", &args->cache_seqlens},
                                 {"conv_state_indices", indices}};
    const cc1d_named outputs[] = {{"conv_state", state}};
    return cc1d_check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

/* Whether both are the same elements of the same memory. */
static bool same_view(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b)
{
    if (a->data != b->data || a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->size[i] != b->size[i] || a->stride[i] != b->stride[i]) return false;
    return true;
}

causal_conv1d_status cc1d_check_forward(const causal_conv1d_forward_args *args,
                                        causal_conv1d_error *error)
{
    const causal_conv1d_tensor none = {0}, *x = &args->x, *final = &args->final_states;
    bool in_place = same_view(final, &args->initial_states);
    const cc1d_named inputs[] = {{"x", x},
                                 {"weight", &args->weight},
                                 {"bias", &args->bias},
                                 {"seq_idx", &args->seq_idx},
                                 {"cu_seqlens", &args->cu_seqlens},
                                 {"initial_states", in_place ? &none : &args->initial_states}};
    const cc1d_named outputs[] = {{"out", &args->out}, {"final_states", final}};
    TRY(cc1d_check_forward_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    if (cc1d_present(final) && cc1d_present(&args->seq_idx))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_COMBINATION,
                         "Expected seq_idx without final states, got both: use cu_seqlens");
    TRY(check_states(outputs[1], x, &args->weight, &args->cu_seqlens, error));
    return cc1d_check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_backward(const causal_conv1d_backward_args *args,
                                         causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const cc1d_named inputs[] = {{"x", x},
                                 {"weight", &args->weight},
                                 {"bias", &args->bias},
                                 {"dout", &args->dout},
                                 {"seq_idx", &args->seq_idx},
                                 {"cu_seqlens", &args->cu_seqlens},
                                 {"initial_states", &args->initial_states},
                                 {"dfinal_states", &args->dfinal_states}};
    const cc1d_named outputs[] = {{"dx", &args->dx},
                                  {"dweight", &args->dweight},
                                  {"dbias", &args->dbias},
                                  {"dinitial_states", &args->dinitial_states}};
    TRY(cc1d_check_backward_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    TRY(check_beside(outputs[1], 2, args->weight.size, "weight (dim, width)", x, false, error));
    if (cc1d_present(&args->dbias))
        TRY(check_beside(outputs[2], 1, &x->size[1], "dim of x", x, false, error));
    TRY(check_states(outputs[3], x, &args->weight, &args->cu_seqlens, error));
    return cc1d_check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_update(const causal_conv1d_update_args *args,
                                       causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const cc1d_named inputs[] = {{"conv_state", &args->conv_state},
                                 {"x", x},
                                 {"weight", &args->weight},
                                 {"bias", &args->bias},
                                 {"cache_seqlens", &args->cache_seqlens},
                                 {"conv_state_indices", &args->conv_state_indices}};
    const cc1d_named outputs[] = {{"out", &args->out}};
    TRY(cc1d_check_update_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    return cc1d_check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_varlen_states(const causal_conv1d_varlen_states_args *args,
                                              causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const cc1d_named inputs[] = {{"x", x}, {"cu_seqlens", &args->cu_seqlens}};
    const cc1d_named outputs[] = {{"states", &args->states}};
    TRY(cc1d_check_packed_inputs(x, &args->cu_seqlens, error));
    const int64_t size[] = {args->cu_seqlens.size[0] - 1, x->size[1],
                            args->states.ndim == 3 ? args->states.size[2] : 0};
    TRY(check_beside(outputs[0], 3, size, "(sequences, dim, state_len)", x, true, error));
    return cc1d_check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}
