/* Good arguments of every public function, small, in one struct of memory, for tests that change
 * one thing about them. */
#ifndef GOOD_H
#define GOOD_H

#include "testing.h"

enum { BATCH = 2, DIM = 3, SEQLEN = 4, WIDTH = 3 };

/* The memory of good arguments.  Refused calls must leave all of it as it is. */
static struct memory {
    float x[24], weight[9], bias[3], dout[24], out[24], dx[24], dweight[9], dbias[3];
    float initial[12], final[12], dinitial[12], state[36];
    int32_t ids[8], packed[3], rows[2];
} memory, before;

static inline causal_conv1d_tensor tensor(void *data, int ndim, int64_t i, int64_t j, int64_t k)
{
    causal_conv1d_tensor t = {.data = data,
                              .dtype = CAUSAL_CONV1D_FLOAT32,
                              .ndim = ndim,
                              .size = {i, j, k},
                              .stride = {1, 1, 1}};
    for (int d = ndim - 2; d >= 0; d--) t.stride[d] = t.stride[d + 1] * t.size[d + 1];
    return t;
}

static inline causal_conv1d_tensor of_x(void *data)
{
    return tensor(data, 3, BATCH, DIM, SEQLEN);
}

static inline causal_conv1d_tensor of_states(void *data)
{
    return tensor(data, 3, BATCH, DIM, WIDTH - 1);
}

static inline causal_conv1d_tensor indices(void *data, int ndim, int64_t i, int64_t j)
{
    causal_conv1d_tensor t = tensor(data, ndim, i, j, 0);
    t.dtype = CAUSAL_CONV1D_INT32;
    return t;
}

static inline causal_conv1d_forward_args good_forward(void)
{
    return (causal_conv1d_forward_args){.x = of_x(memory.x),
                                        .weight = tensor(memory.weight, 2, DIM, WIDTH, 0),
                                        .bias = tensor(memory.bias, 1, DIM, 0, 0),
                                        .out = of_x(memory.out),
                                        .silu = true};
}

static inline causal_conv1d_backward_args good_backward(void)
{
    causal_conv1d_forward_args f = good_forward();
    return (causal_conv1d_backward_args){.x = f.x,
                                         .weight = f.weight,
                                         .bias = f.bias,
                                         .dout = of_x(memory.dout),
                                         .dx = of_x(memory.dx),
                                         .dweight = tensor(memory.dweight, 2, DIM, WIDTH, 0),
                                         .dbias = tensor(memory.dbias, 1, DIM, 0, 0),
                                         .silu = true};
}

/* A state of 4 columns for each of 3 rows, of which rows 2 and 0 are used. */
static inline causal_conv1d_update_args good_update(void)
{
    causal_conv1d_forward_args f = good_forward();
    return (causal_conv1d_update_args){.x = f.x,
                                       .conv_state = tensor(memory.state, 3, 3, DIM, 4),
                                       .weight = f.weight,
                                       .bias = f.bias,
                                       .conv_state_indices = indices(memory.rows, 1, BATCH, 0),
                                       .out = f.out,
                                       .silu = true};
}

/* Two sequences in 8 columns. */
static inline causal_conv1d_varlen_states_args good_varlen_states(void)
{
    return (causal_conv1d_varlen_states_args){.x = tensor(memory.x, 3, 1, DIM, 8),
                                              .cu_seqlens = indices(memory.packed, 1, 3, 0),
                                              .states = of_states(memory.final)};
}

static inline void fill(void)
{
    for (size_t i = 0; i < offsetof(struct memory, ids) / sizeof(float); i++)
        ((float *)&memory)[i] = (float)(i % 7) - 3;
    memcpy(memory.ids, (int32_t[]){0, 0, 1, 1, -1, 2, 2, 2}, sizeof memory.ids);
    memcpy(memory.packed, (int32_t[]){0, 5, 8}, sizeof memory.packed);
    memcpy(memory.rows, (int32_t[]){2, 0}, sizeof memory.rows);
    before = memory;
}

#endif
