/* The entry points of the public interface: check, choose the device, run. */
#include "../include/causal_conv1d.h"

#include "check/check.h"
#include "core/error.h"
#include "core/libtorch.h"
#include "core/tensor.h"
#include "cpu/features.h"
#include "cpu/kernels.h"
#include "gpu/plan.h"
#include "run.h"

/* Sets the message of a status that came without one. */
static causal_conv1d_status done(causal_conv1d_status status, causal_conv1d_error *error)
{
    if (status == CAUSAL_CONV1D_OK) return status;
    return cc1d_fail(error, status, "%s", causal_conv1d_status_message(status));
}

static causal_conv1d_status check_args(const void *args, const uint32_t *size, size_t known,
                                       causal_conv1d_error *error)
{
    if (!args) return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY, "Expected args, got NULL");
    if (*size == 0 || *size == known) return CAUSAL_CONV1D_OK;
    return cc1d_fail(error, CAUSAL_CONV1D_BAD_VALUE,
                     "Expected args with a struct_size of 0 or %u, as version %s has them, got %u",
                     (unsigned)known, CAUSAL_CONV1D_VERSION, (unsigned)*size);
}

/* Whether arguments are there, and laid out as this version knows them. */
#define CHECK_ARGS(args, error) \
    check_args(args, (args) ? &(args)->struct_size : NULL, sizeof *(args), error)

/* The GPU of checked arguments, or NULL for the CPU. */
static const cc1d_gpu *gpu_of(const causal_conv1d_tensor *x)
{
    if (x->device == CAUSAL_CONV1D_MPS) return &cc1d_metal;
    if (x->device == CAUSAL_CONV1D_CUDA) return &cc1d_cuda;
    return NULL;
}

/* The stride of a dimension of one element may have any value, and so may all strides and the data
 * of an empty tensor.  They are replaced by values that are safe to compute with. */
static inline void normalise(causal_conv1d_tensor *t)
{
    static char nothing[8];
    bool empty = false;
    if (!cc1d_present(t)) return;
    for (int i = 0; i < t->ndim; i++) {
        if (t->size[i] == 1) t->stride[i] = 1;
        empty |= t->size[i] == 0;
    }
    if (!empty) return;
    for (int i = 0; i < t->ndim; i++) t->stride[i] = 0;
    if (!t->data) t->data = nothing;
}

/* Whether writing out past the caches pays: an ordinary write first reads the old line.  Measured
 * with a reader of out after it: from CC1D_LARGE on by a quarter, unless the pages are new, which
 * the system has just cleared; below, the reader loses more. */
static bool is_streamed(const causal_conv1d_tensor *out, bool fresh)
{
    return !fresh && cc1d_bytes(out) >= CC1D_LARGE;
}

causal_conv1d_status cc1d_forward(causal_conv1d_forward_args *args, bool fresh_out,
                                  const cc1d_lent *lent, causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    normalise(&args->x);
    normalise(&args->weight);
    normalise(&args->bias);
    normalise(&args->seq_idx);
    normalise(&args->cu_seqlens);
    normalise(&args->initial_states);
    normalise(&args->out);
    normalise(&args->final_states);
    if (gpu) return cc1d_gpu_forward(gpu, args, error);
    const bool stream = is_streamed(&args->out, fresh_out);
    return done(cc1d_cpu_forward(cc1d_best_isa(), args, stream, lent->threads), error);
}

causal_conv1d_status causal_conv1d_forward(const causal_conv1d_forward_args *args,
                                           const causal_conv1d_threads *threads,
                                           causal_conv1d_error *error)
{
    const cc1d_lent lent = {threads, &cc1d_torch_workspace};
    causal_conv1d_status status = CHECK_ARGS(args, error);
    if (status == CAUSAL_CONV1D_OK) status = cc1d_check_forward(args, error);
    if (status != CAUSAL_CONV1D_OK) return status;
    causal_conv1d_forward_args a = *args;
    return cc1d_forward(&a, false, &lent, error);
}

causal_conv1d_status cc1d_backward(causal_conv1d_backward_args *args, const cc1d_lent *lent,
                                   causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    normalise(&args->x);
    normalise(&args->weight);
    normalise(&args->bias);
    normalise(&args->seq_idx);
    normalise(&args->cu_seqlens);
    normalise(&args->initial_states);
    normalise(&args->dout);
    normalise(&args->dfinal_states);
    normalise(&args->dx);
    normalise(&args->dweight);
    normalise(&args->dbias);
    normalise(&args->dinitial_states);
    if (gpu) return cc1d_gpu_backward(gpu, args, lent->workspace, error);
    return done(cc1d_cpu_backward(cc1d_best_isa(), args, lent->threads), error);
}

causal_conv1d_status causal_conv1d_backward(const causal_conv1d_backward_args *args,
                                            const causal_conv1d_threads *threads,
                                            causal_conv1d_error *error)
{
    const cc1d_lent lent = {threads, &cc1d_torch_workspace};
    causal_conv1d_status status = CHECK_ARGS(args, error);
    if (status == CAUSAL_CONV1D_OK) status = cc1d_check_backward(args, error);
    if (status != CAUSAL_CONV1D_OK) return status;
    causal_conv1d_backward_args a = *args;
    return cc1d_backward(&a, &lent, error);
}

causal_conv1d_status cc1d_update(causal_conv1d_update_args *args, const cc1d_lent *lent,
                                 causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    normalise(&args->x);
    normalise(&args->conv_state);
    normalise(&args->weight);
    normalise(&args->bias);
    normalise(&args->cache_seqlens);
    normalise(&args->conv_state_indices);
    normalise(&args->out);
    if (gpu) return cc1d_gpu_update(gpu, args, error);
    return done(cc1d_cpu_update(cc1d_best_isa(), args, lent->threads), error);
}

causal_conv1d_status causal_conv1d_update(const causal_conv1d_update_args *args,
                                          const causal_conv1d_threads *threads,
                                          causal_conv1d_error *error)
{
    const cc1d_lent lent = {threads, &cc1d_torch_workspace};
    causal_conv1d_status status = CHECK_ARGS(args, error);
    if (status == CAUSAL_CONV1D_OK) status = cc1d_check_update(args, error);
    if (status != CAUSAL_CONV1D_OK) return status;
    causal_conv1d_update_args a = *args;
    return cc1d_update(&a, &lent, error);
}

causal_conv1d_status causal_conv1d_varlen_states(const causal_conv1d_varlen_states_args *args,
                                                 const causal_conv1d_threads *threads,
                                                 causal_conv1d_error *error)
{
    causal_conv1d_status status = CHECK_ARGS(args, error);
    if (status == CAUSAL_CONV1D_OK) status = cc1d_check_varlen_states(args, error);
    if (status != CAUSAL_CONV1D_OK) return status;
    causal_conv1d_varlen_states_args a = *args;
    const cc1d_gpu *gpu = gpu_of(&a.x);
    normalise(&a.x);
    normalise(&a.cu_seqlens);
    normalise(&a.states);
    if (gpu) return cc1d_gpu_varlen_states(gpu, &a, error);
    return done(cc1d_cpu_varlen_states(&a, threads), error);
}

const char *causal_conv1d_status_message(causal_conv1d_status status)
{
    switch (status) {
    case CAUSAL_CONV1D_OK: return "success";
    case CAUSAL_CONV1D_BAD_SHAPE: return "a rank or size is wrong, or a size overflows";
    case CAUSAL_CONV1D_BAD_DTYPE: return "a dtype is unknown or not allowed there";
    case CAUSAL_CONV1D_BAD_DEVICE:
        return "tensors are on several devices, or on one without kernels";
    case CAUSAL_CONV1D_BAD_MEMORY: return "a pointer is null, or an output overlaps something";
    case CAUSAL_CONV1D_BAD_VALUE: return "an index or length lies outside of its tensor";
    case CAUSAL_CONV1D_BAD_COMBINATION: return "arguments exclude each other";
    case CAUSAL_CONV1D_OUT_OF_MEMORY: return "the workspace could not be allocated";
    case CAUSAL_CONV1D_DEVICE_FAILED: return "the compiler or driver of a GPU refused";
    }
    return "unknown status";
}

const char *causal_conv1d_version(void)
{
    return CAUSAL_CONV1D_VERSION;
}

int32_t causal_conv1d_version_number(void)
{
    return CAUSAL_CONV1D_VERSION_NUMBER;
}

const char *causal_conv1d_isa(void)
{
    return cc1d_best_isa()->name;
}

const char *causal_conv1d_cpu_feature(int32_t i)
{
    uint32_t found = cc1d_cpu_features(NULL);
#define X(name) \
    if (found & CC1D_##name && i-- == 0) return #name;
    CC1D_FEATURES(X)
#undef X
    return NULL;
}
