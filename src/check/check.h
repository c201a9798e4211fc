/* The rules that arguments must meet, once, for every device and every caller. */
#ifndef CAUSAL_CONV1D_CHECK_CHECK_H
#define CAUSAL_CONV1D_CHECK_CHECK_H

#include "../../include/causal_conv1d.h"

/* What can be said before the outputs exist: the checks of the same name below begin with it. After
 * them outputs of the right shapes in memory of their own need no check. */
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
