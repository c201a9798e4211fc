/* The rules on shape, stride, dtype, device and overlap, with the messages. */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/dtype.h"

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
static causal_conv1d_status check_tensor(named n, causal_conv1d_error *error)
{
    int64_t low, high;
    if (n.t->dtype < CAUSAL_CONV1D_FLOAT32 || n.t->dtype > CAUSAL_CONV1D_FLOAT64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DTYPE,
                         "Expected %s of dtype float32, float16, bfloat16 or float64, got %s",
                         n.name, n.t->dtype == CAUSAL_CONV1D_NONE ? "none" : "another dtype");
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

static causal_conv1d_status check_same_device(named n, const causal_conv1d_tensor *x,
                                              causal_conv1d_error *error)
{
    if (n.t->device != x->device || n.t->device_index != x->device_index)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected %s on the device of x, got a tensor of another device", n.name);
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

causal_conv1d_status cc1d_check_inputs(const causal_conv1d_tensor *x,
                                       const causal_conv1d_tensor *weight,
                                       const causal_conv1d_tensor *bias, causal_conv1d_error *error)
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
    if (x->device != CAUSAL_CONV1D_CPU)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected x on the CPU, got a device that has no kernels here");
    return CAUSAL_CONV1D_OK;
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

causal_conv1d_status cc1d_check_dout(const causal_conv1d_tensor *dout,
                                     const causal_conv1d_tensor *x, causal_conv1d_error *error)
{
    return check_beside((named){"dout", dout}, 3, x->size, "x (batch, dim, seqlen)", x, true,
                        error);
}

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

static bool overlap(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b)
{
    int64_t low_a, high_a, low_b, high_b;
    if (!extent(a, &low_a, &high_a) || !extent(b, &low_b, &high_b)) return true;
    if (is_empty(a) || is_empty(b)) return false;
    uintptr_t pa = (uintptr_t)a->data, pb = (uintptr_t)b->data;
    return pa + (uintptr_t)low_a < pb + (uintptr_t)high_b &&
           pb + (uintptr_t)low_b < pa + (uintptr_t)high_a;
}

/* outputs[i] must overlap neither itself, nor an input, nor a later output. */
static causal_conv1d_status check_writes(const named *outputs, int n_outputs, const named *inputs,
                                         int n_inputs, causal_conv1d_error *error)
{
    for (int i = 0; i < n_outputs; i++) {
        if (!cc1d_present(outputs[i].t)) continue;
        if (overlaps_itself(outputs[i].t))
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                             "Expected %s without elements that share memory, got such strides",
                             outputs[i].name);
        for (int j = i + 1; j < n_outputs + n_inputs; j++) {
            named other = j < n_outputs ? outputs[j] : inputs[j - n_outputs];
            if (cc1d_present(other.t) && overlap(outputs[i].t, other.t))
                return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                                 "Expected %s in memory of its own, got an overlap with %s",
                                 outputs[i].name, other.name);
        }
    }
    return CAUSAL_CONV1D_OK;
}

causal_conv1d_status cc1d_check_forward(const causal_conv1d_forward_args *args,
                                        causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const named inputs[] = {{"x", x}, {"weight", &args->weight}, {"bias", &args->bias}};
    const named outputs[] = {{"out", &args->out}};
    TRY(cc1d_check_inputs(x, &args->weight, &args->bias, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    return check_writes(outputs, 1, inputs, 3, error);
}

causal_conv1d_status cc1d_check_backward(const causal_conv1d_backward_args *args,
                                         causal_conv1d_error *error)
{
    const causal_conv1d_tensor *x = &args->x;
    const named inputs[] = {
        {"x", x}, {"weight", &args->weight}, {"bias", &args->bias}, {"dout", &args->dout}};
    const named outputs[] = {
        {"dx", &args->dx}, {"dweight", &args->dweight}, {"dbias", &args->dbias}};
    TRY(cc1d_check_inputs(x, &args->weight, &args->bias, error));
    TRY(cc1d_check_dout(&args->dout, x, error));
    TRY(check_beside(outputs[0], 3, x->size, "x (batch, dim, seqlen)", x, true, error));
    TRY(check_beside(outputs[1], 2, args->weight.size, "weight (dim, width)", x, false, error));
    if (cc1d_present(&args->dbias))
        TRY(check_beside(outputs[2], 1, &x->size[1], "dim of x", x, false, error));
    return check_writes(outputs, 3, inputs, 4, error);
}
