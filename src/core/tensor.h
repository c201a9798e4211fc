/* What can be asked of a tensor: whether it is there, how large it is, what an index in it says. */
#ifndef CAUSAL_CONV1D_CORE_TENSOR_H
#define CAUSAL_CONV1D_CORE_TENSOR_H

#include "dtype.h"

static inline bool cc1d_present(const causal_conv1d_tensor *t)
{
    return t->dtype != CAUSAL_CONV1D_NONE;
}

/* Whether a tensor has no element. */
static inline bool cc1d_is_empty(const causal_conv1d_tensor *t)
{
    for (int i = 0; i < t->ndim; i++)
        if (t->size[i] == 0) return true;
    return false;
}

/* Sequences in x: those that cu_seqlens cuts it into, if present, else the rows of the batch. */
static inline int64_t cc1d_sequences(const causal_conv1d_tensor *x,
                                     const causal_conv1d_tensor *cu_seqlens)
{
    return cc1d_present(cu_seqlens) ? cu_seqlens->size[0] - 1 : x->size[0];
}

/* From this many bytes on memory is fetched afresh for a tensor, and does not stay in caches. */
#define CC1D_LARGE ((uint64_t)32 << 20)

/* Bytes of a checked tensor's elements. */
static inline uint64_t cc1d_bytes(const causal_conv1d_tensor *t)
{
    uint64_t bytes = cc1d_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++) bytes *= (uint64_t)t->size[i];
    return bytes;
}

/* Bytes from data to the first and past the last element, 0 and 0 of an empty tensor; false if
 * they, or the bytes of as many elements of 16 bytes, overflow. */
static inline bool cc1d_extent(const causal_conv1d_tensor *t, int64_t *low, int64_t *high)
{
    const int64_t size = (int64_t)cc1d_dtype_size(t->dtype);
    int64_t count = 16, reach, first = 0, last = 0;
    bool overflow = false;
    *low = *high = 0;
    for (int i = 0; i < t->ndim; i++) {
        if (t->size[i] == 0) return true;
        if (t->size[i] == 1) continue;
        overflow |= __builtin_mul_overflow(count, t->size[i], &count);
        overflow |= __builtin_mul_overflow(t->size[i] - 1, t->stride[i], &reach);
        overflow |= __builtin_mul_overflow(reach, size, &reach);
        overflow |= reach < 0 ? __builtin_add_overflow(first, reach, &first)
                              : __builtin_add_overflow(last, reach, &last);
    }
    *low = first;
    return !(overflow | __builtin_add_overflow(last, size, high));
}

/* Element i of a vector of indices, int32 or int64. */
static inline int64_t cc1d_index(const causal_conv1d_tensor *t, int64_t i)
{
    i *= t->stride[0];
    return t->dtype == CAUSAL_CONV1D_INT32 ? ((const int32_t *)t->data)[i]
                                           : ((const int64_t *)t->data)[i];
}

/* The id of column t of batch row b; columns before 0 carry the first one's. */
static inline int64_t cc1d_seq_idx(const causal_conv1d_tensor *seq_idx, int64_t b, int64_t t)
{
    int64_t i = b * seq_idx->stride[0] + (t < 0 ? 0 : t) * seq_idx->stride[1];
    return seq_idx->dtype == CAUSAL_CONV1D_INT32 ? ((const int32_t *)seq_idx->data)[i]
                                                 : ((const int64_t *)seq_idx->data)[i];
}

#endif
