/* The rules that arguments must meet, once, for every device and every caller. */
#ifndef CAUSAL_CONV1D_CHECK_H
#define CAUSAL_CONV1D_CHECK_H

#include "../include/causal_conv1d.h"

static inline bool cc1d_present(const causal_conv1d_tensor *t)
{
    return t->dtype != CAUSAL_CONV1D_NONE;
}

/* Sequences in x: those that cu_seqlens cuts it into, if present, else the rows of the batch. */
static inline int64_t cc1d_sequences(const causal_conv1d_tensor *x,
                                     const causal_conv1d_tensor *cu_seqlens)
{
    return cc1d_present(cu_seqlens) ? cu_seqlens->size[0] - 1 : x->size[0];
}

/* Sets the message (error may be NULL) and returns the status. */
causal_conv1d_status cc1d_fail(causal_conv1d_error *error, causal_conv1d_status status,
                               const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

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

/* The functions of the public interface without its checks.  fresh_out: the memory of out was
 * allocated for this call. */
causal_conv1d_status cc1d_forward(const causal_conv1d_forward_args *args, bool fresh_out,
                                  const causal_conv1d_threads *threads, causal_conv1d_error *error);
causal_conv1d_status cc1d_backward(const causal_conv1d_backward_args *args,
                                   const causal_conv1d_threads *threads,
                                   causal_conv1d_error *error);
causal_conv1d_status cc1d_update(const causal_conv1d_update_args *args,
                                 const causal_conv1d_threads *threads, causal_conv1d_error *error);

#endif
