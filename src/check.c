/* The rules on shape, stride, dtype, device and overlap, with the messages. */
#include "check.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/dtype.h"
#include "cpu/kernels.h"

#define TRY(call)                                        \
    do {                                                 \
        causal_conv1d_status status_ = (call);           \
        if (status_ != CAUSAL_CONV1D_OK) return status_; \
    } while (0)

causal_conv1d_status cc1d_fail(causal_conv1d_error *error, causal_conv1d_status status,
                               const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
    }
    return status;
}

/* A tensor with the name that messages use. */
typedef struct named {
    const char *name;
    const causal_conv1d_tensor *t;
} named;

static bool is_empty(const causal_conv1d_tensor *t)
{
    for (int i = 0; i < t->ndim; i++)
        if (t->size[i] == 0) return true;
    return false;
}

/* Bytes from data to the first and past the last element; false if that overflows. */
static bool extent(const causal_conv1d_tensor *t, int64_t *low, int64_t *high)
{
    int64_t size = (int64_t)cc1d_dtype_size(t->dtype);
    *low = 0, *high = is_empty(t) ? 0 : size;
    if (is_empty(t)) return true;
    for (int i = 0; i < t->ndim; i++) {
        int64_t reach, *end = t->stride[i] < 0 ? low : high;
        if (__builtin_mul_overflow(t->size[i] - 1, t->stride[i], &reach) ||
            __builtin_mul_overflow(reach, size, &reach) || __builtin_add_overflow(*end, reach, end))
            return false;
    }
    return true;
}

static bool elements_overflow(const causal_conv1d_tensor *t)
{
    int64_t n = 16; /* leaves room for byte counts of any dtype */
    if (is_empty(t)) return false;
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(n, t->size[i], &n)) return true;
    return false;
}

/* What holds for every tensor, whatever its part in the call. */
static causal_conv1d_status check_memory(named n, causal_conv1d_error *error)
{
    int64_t low, high;
    for (int i = 0; i < n.t->ndim; i++)
        if (n.t->size[i] < 0)
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected sizes >= 0 in %s, got %lld in dimension %d", n.name,
                             (long long)n.t->size[i], i);
    if (elements_overflow(n.t) || !extent(n.t, &low, &high))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected sizes and strides of %s that fit 63 bits, got an overflow",
                         n.name);
    if (high > low && !n.t->data)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY, "Expected data in %s, got NULL", n.name);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status check_tensor(named n, causal_conv1d_error *error)
{
    if (n.t->dtype < CAUSAL_CONV1D_FLOAT32 || n.t->dtype > CAUSAL_CONV1D_FLOAT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of dtype float32, float16, bfloat16 or float64, got %s",
                         n.name, n.t->dtype == CAUSAL_CONV1D_NONE ? "none" : "another dtype");
    return check_memory(n, error);
}

static causal_conv1d_status check_same_device(named n, const causal_conv1d_tensor *x,
                                              causal_conv1d_error *error)
{
    if (n.t->device != x->device || n.t->device_index != x->device_index)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected %s on the device of x, got a tensor of another device", n.name);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status check_has_kernels(const causal_conv1d_tensor *x,
                                              causal_conv1d_error *error)
{
    if (x->device == CAUSAL_CONV1D_OTHER_DEVICE)
        return cc1d_fail(
            error, CAUSAL_CONV1D_BAD_DEVICE,
            "Expected x on a CPU, Apple GPU (mps) or NVIDIA GPU (cuda), got another device");
    if (x->device != CAUSAL_CONV1D_CPU && x->dtype == CAUSAL_CONV1D_FLOAT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected x of dtype float32, float16 or bfloat16 on a GPU, got float64, "
                         "which the CPU takes");
    return CAUSAL_CONV1D_OK;
}

/* A tensor that must have the given shape; what says where the sizes come from. */
static causal_conv1d_status check_shape(named n, int ndim, const int64_t *size, const char *what,
                                        causal_conv1d_error *error)
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
    if (weight->ndim != 2)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected 2D tensor weight (dim, width), got %dD", weight->ndim);
    TRY(check_tensor((named){"x", x}, error));
    TRY(check_tensor((named){"weight", weight}, error));
    if (weight->size[0] != x->size[1])
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "weight (dim, width) with dim %lld does not match x (batch, dim, seqlen) "
                         "with dim %lld",
                         (long long)weight->size[0], (long long)x->size[1]);
    if (weight->size[1] < 1)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                         "Expected weight (dim, width) with width >= 1, got %lld",
                         (long long)weight->size[1]);
    TRY(check_same_device((named){"weight", weight}, x, error));
    if (cc1d_present(bias)) {
        if (bias->ndim != 1)
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected 1D tensor bias (dim), got %dD", bias->ndim);
        TRY(check_tensor((named){"bias", bias}, error));
        if (bias->size[0] != x->size[1])
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                             "bias (dim) with dim %lld does not match x (batch, dim, seqlen) with "
                             "dim %lld",
                             (long long)bias->size[0], (long long)x->size[1]);
        TRY(check_same_device((named){"bias", bias}, x, error));
    }
    return check_has_kernels(x, error);
}

/* A further tensor beside x: of the given shape, on x's device, if same_dtype of x's dtype. */
static causal_conv1d_status check_beside(named n, int ndim, const int64_t *size, const char *what,
                                         const causal_conv1d_tensor *x, bool same_dtype,
                                         causal_conv1d_error *error)
{
    TRY(check_shape(n, ndim, size, what, error));
    TRY(check_tensor(n, error));
    TRY(check_same_device(n, x, error));
    if (same_dtype && n.t->dtype != x->dtype)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of x's dtype, which it does not match", n.name);
    return CAUSAL_CONV1D_OK;
}

/* An optional tensor of indices. */
static causal_conv1d_status check_indices(named n, int ndim, const int64_t *size, const char *what,
                                          const causal_conv1d_tensor *x, causal_conv1d_error *error)
{
    if (!cc1d_present(n.t)) return CAUSAL_CONV1D_OK;
    TRY(check_shape(n, ndim, size, what, error));
    if (n.t->dtype != CAUSAL_CONV1D_INT32 && n.t->dtype != CAUSAL_CONV1D_INT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of dtype int32 or int64, got another dtype", n.name);
    TRY(check_memory(n, error));
    return check_same_device(n, x, error);
}

causal_conv1d_status cc1d_check_packed_inputs(const causal_conv1d_tensor *x,
                                              const causal_conv1d_tensor *cu_seqlens,
                                              causal_conv1d_error *error)
{
    const named packed = {"cu_seqlens", cu_seqlens};
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
    TRY(check_tensor((named){"x", x}, error));
    TRY(check_has_kernels(x, error));
    TRY(check_indices(packed, 1, cu_seqlens->size, "", x, error));
    if (cu_seqlens->size[0] == 1 && x->size[2] > 0)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                         "cu_seqlens of no sequence does not match the total of x, %lld",
                         (long long)x->size[2]);
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
    if (last != x->size[2])
        return cc1d_fail(
            error, CAUSAL_CONV1D_BAD_VALUE,
            "The last element of cu_seqlens, %lld, does not match the total of x, %lld",
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
static causal_conv1d_status check_states(named n, const causal_conv1d_tensor *x,
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
    TRY(check_indices((named){"seq_idx", seq_idx}, 2, times, "(batch, seqlen)", x, error));
    return check_states((named){"initial_states", initial_states}, x, weight, cu_seqlens, error);
}

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static bool overlaps_itself(const causal_conv1d_tensor *t)
{
    /* Walk the dimensions from the shortest stride up: each must step over all below it. */
    int64_t span = 1;
    bool used[3] = {false, false, false};
    if (is_empty(t)) return false;
    for (int n = 0; n < t->ndim; n++) {
        int next = -1;
        for (int i = 0; i < t->ndim; i++)
            if (!used[i] && (next < 0 || llabs(t->stride[i]) < llabs(t->stride[next]))) next = i;
        used[next] = true;
        if (t->size[next] == 1) continue;
        if (llabs(t->stride[next]) < span) return true;
        span += (t->size[next] - 1) * llabs(t->stride[next]);
    }
    return false;
}

/* The bytes that a tensor spans: none if it is absent or empty. */
typedef struct bytes {
    uintptr_t begin, end;
} bytes;

static bytes span(const causal_conv1d_tensor *t)
{
    int64_t low, high;
    if (!cc1d_present(t) || !extent(t, &low, &high) || low == high) return (bytes){0, 0};
    /* On an Apple GPU data is no address, but the same for the same memory. */
    if (t->device == CAUSAL_CONV1D_MPS) low = 0, high = 1;
    return (bytes){(uintptr_t)t->data + (uintptr_t)low, (uintptr_t)t->data + (uintptr_t)high};
}

/* outputs[i] must overlap neither itself, nor an input, nor a later output. */
static causal_conv1d_status check_writes(const named *outputs, int n_outputs, const named *inputs,
                                         int n_inputs, causal_conv1d_error *error)
{
    bytes spans[16];
    assert(n_outputs + n_inputs <= COUNT(spans));
    for (int i = 0; i < n_outputs; i++) spans[i] = span(outputs[i].t);
    for (int i = 0; i < n_inputs; i++) spans[n_outputs + i] = span(inputs[i].t);
    for (int i = 0; i < n_outputs; i++) {
        if (spans[i].begin == spans[i].end) continue;
        if (overlaps_itself(outputs[i].t))
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                             "Expected %s without elements that share memory, got such strides",
                             outputs[i].name);
        for (int j = i + 1; j < n_outputs + n_inputs; j++) {
            if (spans[i].begin < spans[j].end && spans[j].begin < spans[i].end)
                return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                                 "Expected %s in memory of its own, got an overlap with %s",
                                 outputs[i].name,
                                 (j < n_outputs ? outputs[j] : inputs[j - n_outputs]).name);
        }
    }
    return CAUSAL_CONV1D_OK;
}

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
    TRY(check_beside((named){"dout", &args->dout}, 3, args->x.size, "x (batch, dim, seqlen)",
                     &args->x, true, error));
    return check_states((named){"dfinal_states", &args->dfinal_states}, &args->x, &args->weight,
                        &args->cu_seqlens, error);
}

causal_conv1d_status cc1d_check_update_inputs(const causal_conv1d_update_args *args,
                                              causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x, *state = &args->conv_state;
    const causal_conv1d_tensor *indices = &args->conv_state_indices;
    TRY(check_inputs(x, &args->weight, &args->bias, error));
    TRY(check_indices((named){"cache_seqlens", &args->cache_seqlens}, 1, x->size, "(batch)", x,
                      error));
    TRY(check_indices((named){"conv_state_indices", indices}, 1, x->size, "(batch)", x, error));
    if (state->ndim != 3 || state->size[2] < args->weight.size[1] - 1)
        return cc1d_fail(
            error, CAUSAL_CONV1D_BAD_SHAPE,
            "Expected conv_state (batch, dim, state_len) with state_len >= width - 1 = "
            "%lld, got %dD with %lld",
            (long long)args->weight.size[1] - 1, state->ndim,
            (long long)(state->ndim == 3 ? state->size[2] : 0));
    const int64_t size[] = {cc1d_present(indices) ? state->size[0] : x->size[0], x->size[1],
                            state->size[2]};
    TRY(check_beside((named){"conv_state", state}, 3, size, "(batch, dim, state_len)", x, true,
                     error));
    bool readable = cc1d_present(indices) && x->device == CAUSAL_CONV1D_CPU;
    for (int64_t b = 0; readable && b < x->size[0]; b++)
        if (cc1d_index(indices, b) >= state->size[0])
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                             "Expected conv_state_indices below %lld, the size of conv_state, got "
                             "%lld at %lld",
                             (long long)state->size[0], (long long)cc1d_index(indices, b),
                             (long long)b);
    const named inputs[] = {{"x", x},
                            {"weight", &args->weight},
                            {"bias", &args->bias},
                            {"cache_seqlens", &args->cache_seqlens},
                            {"conv_state_indices", indices}};
    const named outputs[] = {{"conv_state", state}};
    return check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
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
    const named inputs[] = {{"x", x},
                            {"weight", &args->weight},
                            {"bias", &args->bias},
                            {"seq_idx", &args->seq_idx},
                            {"cu_seqlens", &args->cu_seqlens},
                            {"initial_states", in_place ? &none : &args->initial_states}};
    const named outputs[] = {{"out", &args->out}, {"final_states", final}};
    TRY(cc1d_check_forward_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    if (cc1d_present(final) && cc1d_present(&args->seq_idx))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_COMBINATION,
                         "Expected seq_idx without final states, got both: use cu_seqlens");
    TRY(check_states(outputs[1], x, &args->weight, &args->cu_seqlens, error));
    return check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_backward(const causal_conv1d_backward_args *args,
                                         causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const named inputs[] = {{"x", x},
                            {"weight", &args->weight},
                            {"bias", &args->bias},
                            {"dout", &args->dout},
                            {"seq_idx", &args->seq_idx},
                            {"cu_seqlens", &args->cu_seqlens},
                            {"initial_states", &args->initial_states},
                            {"dfinal_states", &args->dfinal_states}};
    const named outputs[] = {{"dx", &args->dx},
                             {"dweight", &args->dweight},
                             {"dbias", &args->dbias},
                             {"dinitial_states", &args->dinitial_states}};
    TRY(cc1d_check_backward_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    TRY(check_beside(outputs[1], 2, args->weight.size, "weight (dim, width)", x, false, error));
    if (cc1d_present(&args->dbias))
        TRY(check_beside(outputs[2], 1, &x->size[1], "dim of x", x, false, error));
    TRY(check_states(outputs[3], x, &args->weight, &args->cu_seqlens, error));
    return check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_update(const causal_conv1d_update_args *args,
                                       causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const named inputs[] = {{"conv_state", &args->conv_state},
                            {"x", x},
                            {"weight", &args->weight},
                            {"bias", &args->bias},
                            {"cache_seqlens", &args->cache_seqlens},
                            {"conv_state_indices", &args->conv_state_indices}};
    const named outputs[] = {{"out", &args->out}};
    TRY(cc1d_check_update_inputs(args, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    return check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}

causal_conv1d_status cc1d_check_varlen_states(const causal_conv1d_varlen_states_args *args,
                                              causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const named inputs[] = {{"x", x}, {"cu_seqlens", &args->cu_seqlens}};
    const named outputs[] = {{"states", &args->states}};
    TRY(cc1d_check_packed_inputs(x, &args->cu_seqlens, error));
    const int64_t size[] = {args->cu_seqlens.size[0] - 1, x->size[1],
                            args->states.ndim == 3 ? args->states.size[2] : 0};
    TRY(check_beside(outputs[0], 3, size, "(sequences, dim, state_len)", x, true, error));
    return check_writes(outputs, COUNT(outputs), inputs, COUNT(inputs), error);
}
