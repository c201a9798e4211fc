/* Whether the elements of strided tensors share memory. */
#ifndef CAUSAL_CONV1D_CHECK_OVERLAP_H
#define CAUSAL_CONV1D_CHECK_OVERLAP_H

#include "../../include/causal_conv1d.h"

/* Both are exact within an effort of CC1D_OVERLAP_EFFORT steps, a fraction of a millisecond; beyond
 * it they say yes.  Tensors whose strides nest, as those of slices do, take a few steps.  No tensor
 * may be empty, and each must span less than 2^63 bytes. */
enum { CC1D_OVERLAP_EFFORT = 4096 };

/* Whether an element of a and one of b have a byte in common; element (0,0,0) of b lies `distance`
 * bytes after that of a. */
bool cc1d_overlap(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b, int64_t distance);

/* Whether two elements of t have a byte in common. */
bool cc1d_overlaps_itself(const causal_conv1d_tensor *t);

/* A tensor with the name that messages use. */
typedef struct cc1d_named {
    const char *name;
    const causal_conv1d_tensor *t;
} cc1d_named;

/* outputs[i] must overlap neither itself, nor an input, nor a later output. */
causal_conv1d_status cc1d_check_writes(const cc1d_named *outputs, int n_outputs,
                                       const cc1d_named *inputs, int n_inputs,
                                       causal_conv1d_error *error);

#endif
