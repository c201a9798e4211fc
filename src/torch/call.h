/* What an operation works with while it runs.
 *
 * PyTorch calls a boxed kernel with the arguments on a stack of 64-bit values.  Tensors are
 * handles that the kernel owns and deletes; it leaves handles of the results on the stack. */
#ifndef CAUSAL_CONV1D_TORCH_CALL_H
#define CAUSAL_CONV1D_TORCH_CALL_H

#include "../core/libtorch.h"

/* The arguments and temporaries of a call, and what went wrong. */
typedef struct cc1d_call {
    AtenTensorHandle owned[16];
    int owned_count;
    causal_conv1d_status status;
    causal_conv1d_error error;
} cc1d_call;

/* Takes an argument off the stack, which the call then owns; NULL for an optional one that is
 * absent. */
AtenTensorHandle cc1d_take(cc1d_call *c, StableIValue value);
AtenTensorHandle cc1d_take_optional(cc1d_call *c, StableIValue value);

/* Our view of a tensor; NULL gives an absent one. */
causal_conv1d_tensor cc1d_view(AtenTensorHandle handle);

/* A new tensor of t's shape, dtype and device: with its strides; with those that torch.empty_like
 * gives it, or contiguous; with the values of `from` as well. */
causal_conv1d_tensor cc1d_new_strided(cc1d_call *c, causal_conv1d_tensor t,
                                      AtenTensorHandle *handle);
causal_conv1d_tensor cc1d_new_like(cc1d_call *c, const causal_conv1d_tensor *t, bool keep_strides,
                                   AtenTensorHandle *handle);
causal_conv1d_tensor cc1d_copied(cc1d_call *c, const causal_conv1d_tensor *like, bool keep_strides,
                                 AtenTensorHandle from, AtenTensorHandle *handle);

/* The taps as kernels of a GPU read them: contiguous and on 16 bytes, as they nearly always are. */
void cc1d_make_taps_contiguous(cc1d_call *c, causal_conv1d_tensor *weight);

/* Releases what the call owns but the results, and raises if it failed. */
void cc1d_finish(cc1d_call *c, StableIValue *stack, const AtenTensorHandle *results, int count);

/* Whether large outputs ask for huge pages. */
extern bool cc1d_huge_pages;

#endif
