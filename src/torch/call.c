/* The tensors of a call: from PyTorch's handles to views and back, new ones, and the one place that
 * raises. */
#define _GNU_SOURCE /* madvise */
#include "call.h"

#include <stdio.h>

#include "../core/error.h"
#include "../core/tensor.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#define torch cc1d_torch

bool cc1d_huge_pages;

static AtenTensorHandle own(cc1d_call *c, AtenTensorHandle handle)
{
    return c->owned[c->owned_count++] = handle;
}

AtenTensorHandle cc1d_take(cc1d_call *c, StableIValue value)
{
    return own(c, (AtenTensorHandle)(uintptr_t)value);
}

AtenTensorHandle cc1d_take_optional(cc1d_call *c, StableIValue value)
{
    StableIValue *cell = (StableIValue *)(uintptr_t)value;
    if (!cell) return NULL;
    AtenTensorHandle handle = cc1d_take(c, *cell);
    if (torch.torch_delete_stable_ivalue)
        torch.torch_delete_stable_ivalue(cell);
    else
        torch.operator_delete(cell);
    return handle;
}

/* Releases what the call owns but the results, and raises if it failed. */
void cc1d_finish(cc1d_call *c, StableIValue *stack, const AtenTensorHandle *results, int count)
{
    bool failed = c->status != CAUSAL_CONV1D_OK;
    for (int i = 0; i < c->owned_count; i++) {
        bool result = false;
        for (int j = 0; j < count; j++) result = result || c->owned[i] == results[j];
        if (failed || !result) torch.aoti_torch_delete_tensor_object(c->owned[i]);
    }
    for (int j = 0; j < count; j++) stack[j] = failed ? 0 : (StableIValue)(uintptr_t)results[j];
    if (!failed) return;
    static const char *const kinds[] = {[CAUSAL_CONV1D_BAD_SHAPE] = "shape",
                                        [CAUSAL_CONV1D_BAD_DTYPE] = "dtype",
                                        [CAUSAL_CONV1D_BAD_DEVICE] = "device",
                                        [CAUSAL_CONV1D_BAD_MEMORY] = "memory",
                                        [CAUSAL_CONV1D_BAD_VALUE] = "value",
                                        [CAUSAL_CONV1D_BAD_COMBINATION] = "combination",
                                        [CAUSAL_CONV1D_OUT_OF_MEMORY] = "out of memory",
                                        [CAUSAL_CONV1D_DEVICE_FAILED] = "failed"};
    char text[sizeof c->error.message + 64];
    snprintf(text, sizeof text, "causal_conv1d_mps [%s] %s", kinds[c->status], c->error.message);
    torch.aoti_torch_check(false, __func__, "causal_conv1d_mps", 0, text);
}

/* Our view of a tensor; NULL gives an absent one.  Where a tensor is required PyTorch passes None
 * as a tensor without strides.  That becomes a scalar of dtype OTHER, which every check refuses. */
causal_conv1d_tensor cc1d_view(AtenTensorHandle handle)
{
    causal_conv1d_tensor t = {0};
    if (!handle) return t;
    int32_t dtype = -1, device = -1;
    int64_t ndim = 0, *sizes, *strides;
    t.dtype = CAUSAL_CONV1D_OTHER;
    if (torch.aoti_torch_get_strides(handle, &strides)) return t;
    torch.aoti_torch_get_dim(handle, &ndim);
    torch.aoti_torch_get_sizes(handle, &sizes);
    torch.aoti_torch_get_dtype(handle, &dtype);
    torch.aoti_torch_get_device_type(handle, &device);
    torch.aoti_torch_get_data_ptr(handle, &t.data);
    while (t.device < CAUSAL_CONV1D_OTHER_DEVICE && torch.devices[t.device] != device) t.device++;
    if (t.device != CAUSAL_CONV1D_CPU) torch.aoti_torch_get_device_index(handle, &t.device_index);
    t.handle = handle;
    t.dtype = CAUSAL_CONV1D_FLOAT32;
    while (t.dtype < CAUSAL_CONV1D_OTHER && torch.dtypes[t.dtype] != dtype) t.dtype++;
    t.ndim = (int32_t)ndim;
    for (int i = 0; i < ndim && i < 3; i++) t.size[i] = sizes[i], t.stride[i] = strides[i];
    return t;
}

/* The order of dimensions of a dense tensor like t, the fastest first, as torch.empty_like has
 * it: by stride; dimensions of stride 0 stay where they are. */
static void dense_order(const causal_conv1d_tensor *t, int order[3])
{
    for (int i = 0; i < t->ndim; i++) order[i] = t->ndim - 1 - i;
    for (int i = 1; i < t->ndim; i++)
        for (int j = i - 1, moving = i; j >= 0; j--) {
            int a = order[j], b = order[moving];
            if (t->stride[a] == 0 || t->stride[b] == 0) continue;
            if (t->stride[a] < t->stride[b]) break;
            if (t->stride[a] == t->stride[b] && t->size[a] <= t->size[b]) continue;
            order[j] = b, order[moving] = a, moving = j;
        }
}

/* Whether t fills its memory without gaps, or is empty: torch.empty_like keeps its strides. */
static bool is_dense(const causal_conv1d_tensor *t)
{
    int64_t expected = 1;
    bool used[3] = {false, false, false};
    if (cc1d_is_empty(t)) return true;
    for (int n = 0; n < t->ndim; n++) {
        int next = -1;
        for (int i = 0; i < t->ndim; i++)
            if (!used[i] && t->size[i] > 1 && (next < 0 || t->stride[i] < t->stride[next]))
                next = i;
        if (next < 0) return true;
        if (t->stride[next] != expected) return false;
        used[next] = true;
        expected *= t->size[next];
    }
    return true;
}

/* Advise huge pages for memory that a call has just allocated and not yet written.  From
 * CC1D_LARGE on glibc maps fresh pages for every tensor, whose first touch would cost more than the
 * convolution; smaller memory is mostly recycled. */
static void advise_huge_pages(const causal_conv1d_tensor *t)
{
#ifdef __linux__
    const uintptr_t page = (uintptr_t)2 << 20, bytes = (uintptr_t)cc1d_bytes(t);
    if (!cc1d_huge_pages || bytes < CC1D_LARGE) return;
    uintptr_t begin = ((uintptr_t)t->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)t->data + bytes) / page * page;
    madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* advice: may fail */
#else
    (void)t;
#endif
}

/* A new tensor of t's shape, strides, dtype and device. */
causal_conv1d_tensor cc1d_new_strided(cc1d_call *c, causal_conv1d_tensor t,
                                      AtenTensorHandle *handle)
{
    *handle = NULL;
    if (torch.aoti_torch_empty_strided(t.ndim, t.size, t.stride, torch.dtypes[t.dtype],
                                       torch.devices[t.device], t.device_index, handle)) {
        c->status = cc1d_fail(&c->error, CAUSAL_CONV1D_OUT_OF_MEMORY,
                              "PyTorch could not allocate a tensor");
        return t;
    }
    own(c, *handle);
    torch.aoti_torch_get_data_ptr(*handle, &t.data);
    t.handle = *handle;
    if (t.device == CAUSAL_CONV1D_CPU) advise_huge_pages(&t);
    return t;
}

/* The same, with the strides of torch.empty_like or contiguous. */
causal_conv1d_tensor cc1d_new_like(cc1d_call *c, const causal_conv1d_tensor *t, bool keep_strides,
                                   AtenTensorHandle *handle)
{
    causal_conv1d_tensor out = *t;
    int order[3] = {t->ndim - 1, t->ndim - 2, t->ndim - 3};
    if (keep_strides) dense_order(t, order);
    if (!keep_strides || !is_dense(t)) {
        int64_t stride = 1;
        for (int i = 0; i < t->ndim; i++) {
            out.stride[order[i]] = stride;
            stride *= t->size[order[i]] > 1 ? t->size[order[i]] : 1;
        }
    }
    return cc1d_new_strided(c, out, handle);
}

/* A new tensor like the one given, with the values of `from`. */
causal_conv1d_tensor cc1d_copied(cc1d_call *c, const causal_conv1d_tensor *like, bool keep_strides,
                                 AtenTensorHandle from, AtenTensorHandle *handle)
{
    causal_conv1d_tensor t = cc1d_new_like(c, like, keep_strides, handle);
    if (!c->status && torch.aoti_torch_copy_(*handle, from, 0))
        c->status =
            cc1d_fail(&c->error, CAUSAL_CONV1D_DEVICE_FAILED, "PyTorch could not copy a tensor");
    return t;
}

/* The taps as kernels of a GPU read them: contiguous and on 16 bytes, as they nearly always are. */
void cc1d_make_taps_contiguous(cc1d_call *c, causal_conv1d_tensor *weight)
{
    if (c->status || weight->device == CAUSAL_CONV1D_CPU) return;
    if (weight->stride[1] == 1 && weight->stride[0] == weight->size[1] &&
        (uintptr_t)weight->data % 16 == 0)
        return;
    AtenTensorHandle copy;
    *weight = cc1d_copied(c, weight, false, weight->handle, &copy);
}
