/* The entry points of the public interface: check, choose the device, run. */
#include "../include/causal_conv1d.h"

#include "check.h"
#include "cpu/dtype.h"
#include "cpu/features.h"
#include "cpu/kernels.h"
#include "gpu/gpu.h"

/* Sets the message of a status that came without one. */
static causal_conv1d_status done(causal_conv1d_status status, causal_conv1d_error *error)
{
    if (status == CAUSAL_CONV1D_OK) return status;
    return cc1d_fail(error, status, "%s", causal_conv1d_status_message(status));
}

/* The GPU of checked arguments, or NULL for the CPU. */
static const cc1d_gpu *gpu_of(const causal_conv1d_tensor *x)
{
    if (x->device == CAUSAL_CONV1D_MPS) return &cc1d_metal;
    if (x->device == CAUSAL_CONV1D_CUDA) return &cc1d_cuda;
    return NULL;
}

/* Whether writing out past the caches pays: an ordinary write first reads the old line.  Measured
 * with a reader of out after it: from 32 MB on by a quarter, unless the pages are new, which the
 * system has just cleared; below, the reader loses more. */
static bool is_streamed(const causal_conv1d_tensor *out, bool fresh)
{
    double bytes = (double)cc1d_dtype_size(out->dtype);
    for (int i = 0; i < out->ndim; i++) bytes *= (double)out->size[i];
    return !fresh && bytes >= (double)(32 << 20);
}

causal_conv1d_status cc1d_forward(const causal_conv1d_forward_args *args, bool fresh_out,
                                  const causal_conv1d_threads *threads, causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    if (gpu) return cc1d_gpu_forward(gpu, args, error);
    const bool stream = is_streamed(&args->out, fresh_out);
    return done(cc1d_cpu_forward(cc1d_best_isa(), args, stream, threads), error);
}

causal_conv1d_status causal_conv1d_forward(const causal_conv1d_forward_args *args,
                                           const causal_conv1d_threads *threads,
                                           causal_conv1d_error *error)
{
    causal_conv1d_status status = cc1d_check_forward(args, error);
    return status ? status : cc1d_forward(args, false, threads, error);
}

causal_conv1d_status cc1d_backward(const causal_conv1d_backward_args *args,
                                   const causal_conv1d_threads *threads, causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    if (gpu) return cc1d_gpu_backward(gpu, args, error);
    return done(cc1d_cpu_backward(cc1d_best_isa(), args, threads), error);
}

causal_conv1d_status causal_conv1d_backward(const causal_conv1d_backward_args *args,
                                            const causal_conv1d_threads *threads,
                                            causal_conv1d_error *error)
{
    causal_conv1d_status status = cc1d_check_backward(args, error);
    return status ? status : cc1d_backward(args, threads, error);
}

causal_conv1d_status cc1d_update(const causal_conv1d_update_args *args,
                                 const causal_conv1d_threads *threads, causal_conv1d_error *error)
{
    const cc1d_gpu *gpu = gpu_of(&args->x);
    if (gpu) return cc1d_gpu_update(gpu, args, error);
    return done(cc1d_cpu_update(cc1d_best_isa(), args, threads), error);
}

causal_conv1d_status causal_conv1d_update(const causal_conv1d_update_args *args,
                                          const causal_conv1d_threads *threads,
                                          causal_conv1d_error *error)
{
    causal_conv1d_status status = cc1d_check_update(args, error);
    return status ? status : cc1d_update(args, threads, error);
}

causal_conv1d_status causal_conv1d_varlen_states(const causal_conv1d_varlen_states_args *args,
                                                 const causal_conv1d_threads *threads,
                                                 causal_conv1d_error *error)
{
    causal_conv1d_status status = cc1d_check_varlen_states(args, error);
    if (status != CAUSAL_CONV1D_OK) return status;
    const cc1d_gpu *gpu = gpu_of(&args->x);
    if (gpu) return cc1d_gpu_varlen_states(gpu, args, error);
    cc1d_cpu_varlen_states(args, threads);
    return CAUSAL_CONV1D_OK;
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
