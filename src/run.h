/* The functions of the public interface without their checks, for a caller that has made them. */
#ifndef CAUSAL_CONV1D_RUN_H
#define CAUSAL_CONV1D_RUN_H

#include "core/lent.h"

/* Strides that mean nothing change.  fresh_out: the memory of out was allocated for this call. */
causal_conv1d_status cc1d_forward(causal_conv1d_forward_args *args, bool fresh_out,
                                  const cc1d_lent *lent, causal_conv1d_error *error);
causal_conv1d_status cc1d_backward(causal_conv1d_backward_args *args, const cc1d_lent *lent,
                                   causal_conv1d_error *error);
causal_conv1d_status cc1d_update(causal_conv1d_update_args *args, const cc1d_lent *lent,
                                 causal_conv1d_error *error);

#endif
