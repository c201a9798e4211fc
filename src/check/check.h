/* The rules that arguments must meet, once, for every device and every caller. */
#ifndef CAUSAL_CONV1D_CHECK_CHECK_H
#define CAUSAL_CONV1D_CHECK_CHECK_H

#include "../../include/causal_conv1d.h"

/* The checks of the inputs alone, for a caller that then allocates the outputs: fresh outputs of
 * the right shape need no further check.  The checks of the same name below begin with these. */
causal_conv1d_status cc1d_check_forward_inputs(const causal_conv1d_forward_args *args,
                                               causal_conv1d_error *error);
causal_conv1d_status cc1d_check_backward_inputs(const causal_conv1d_backward_args *args,
                                                causal_conv1d_error *error);
causal_conv1d_status cc1d_check_update_inputs(const causal_conv1d_update_args *args,
                                              causal_conv1d_error *error);
causal_conv1d_status cc1d_check_packed_inputs(const causal_conv1d_tensor *x,
                                              const causal_conv1d_tensor *cu_seqlens,
                                              causal_conv1d_error *error);

causal_conv1d_status cc1d_check_forward(const causal_conv1d_forward_args *args,
                                        causal_conv1d_error *error);

causal_conv1d_status cc1d_check_backward(const causal_conv1d_backward_args *args,
                                         causal_conv1d_error *error);

causal_conv1d_status cc1d_check_update(const causal_conv1d_update_args *args,
                                       causal_conv1d_error *error);

causal_conv1d_status cc1d_check_varlen_states(const causal_conv1d_varlen_states_args *args,
                                              causal_conv1d_error *error);

#endif
