/* What a call is on a GPU: a few launches, planned once for all GPUs.  Arguments are checked. */
#ifndef CAUSAL_CONV1D_GPU_PLAN_H
#define CAUSAL_CONV1D_GPU_PLAN_H

#include "launch.h"

causal_conv1d_status cc1d_gpu_forward(const cc1d_gpu *gpu, const causal_conv1d_forward_args *args,
                                      causal_conv1d_error *error);
causal_conv1d_status cc1d_gpu_backward(const cc1d_gpu *gpu, const causal_conv1d_backward_args *args,
                                       const cc1d_workspace *workspace, causal_conv1d_error *error);
causal_conv1d_status cc1d_gpu_update(const cc1d_gpu *gpu, const causal_conv1d_update_args *args,
                                     causal_conv1d_error *error);
causal_conv1d_status cc1d_gpu_varlen_states(const cc1d_gpu *gpu,
                                            const causal_conv1d_varlen_states_args *args,
                                            causal_conv1d_error *error);

#endif
