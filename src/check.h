/* The rules that arguments must meet, once, for every device and every caller. */
#ifndef CAUSAL_CONV1D_CHECK_H
#define CAUSAL_CONV1D_CHECK_H

#include "../include/causal_conv1d.h"

static inline bool cc1d_present(const causal_conv1d_tensor *t)
{
    return t->dtype != CAUSAL_CONV1D_NONE;
}

/* Sets the message (error may be NULL) and returns the status. */
causal_conv1d_status cc1d_fail(causal_conv1d_error *error, causal_conv1d_status status,
                               const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* What can be said before the outputs exist; the checks below begin with it. */
causal_conv1d_status cc1d_check_inputs(const causal_conv1d_tensor *x,
                                       const causal_conv1d_tensor *weight,
                                       const causal_conv1d_tensor *bias,
                                       causal_conv1d_error *error);

/* dout (B,D,T) beside x. */
causal_conv1d_status cc1d_check_dout(const causal_conv1d_tensor *dout,
                                     const causal_conv1d_tensor *x, causal_conv1d_error *error);

causal_conv1d_status cc1d_check_forward(const causal_conv1d_forward_args *args,
                                        causal_conv1d_error *error);

causal_conv1d_status cc1d_check_backward(const causal_conv1d_backward_args *args,
                                         causal_conv1d_error *error);

#endif
