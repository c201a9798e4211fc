/* What the launchers in C and the shader agree on: kernels, sizes, and the argument slots of each
 * kernel.  GPU compilers get this text before the shader. */
#ifndef CC1D_ARGS_H
#define CC1D_ARGS_H

/* The values of KERNEL: which kernel a text is compiled for. */
#define CC1D_ALL 0
#define CC1D_FORWARD_TIME 1
#define CC1D_FORWARD_DIM 2
#define CC1D_BACKWARD_TIME 3
#define CC1D_BACKWARD_DIM 4
#define CC1D_BACKWARD_ANY_WIDTH 5
#define CC1D_SUMS_ANY_WIDTH 6
#define CC1D_BACKWARD_STATES 7
#define CC1D_REDUCE 8
#define CC1D_STATES 9
#define CC1D_UPDATE 10
#define CC1D_FORWARD_WIDE_TIME 11
#define CC1D_FORWARD_WIDE_DIM 12

/* The widths whose taps are kept in registers; others are served one element at a time, but for
 * the forward up to a width whose taps and window threadgroup memory (32 KiB) holds. */
#define CC1D_GPU_MIN_WIDTH 2
#define CC1D_GPU_MAX_WIDTH 8
#define CC1D_GPU_WIDE_WIDTH 256

/* There: times of a thread, and SIMD groups of a group in either kernel. */
#define CC1D_WIDE_TIMES 16
#define CC1D_WIDE_TIME_SIMDS 4
#define CC1D_WIDE_DIM_SIMDS 8

/* Threads of a SIMD group. */
#define CC1D_SIMD 32

/* Threads of a group, at the most. */
#define CC1D_GROUP 256

/* Threads that share the sum of one element in `reduce`. */
#define CC1D_REDUCE_SLICES 8

/* Argument slots of a kernel, as Metal has them. */
#define CC1D_SLOTS 31

/* The slots of each kernel, in order: TENSOR(prefix, type, name), a pointer to device memory, and
 * NUMBER(prefix, name), 64 bits.  Strides are named after the dimension that they step over: batch
 * b, sequence n, channel d, time t, state column k. */
/* clang-format off */
#define CC1D_STRIDES(NUMBER, prefix, name, i, j, k) \
    NUMBER(prefix, name##_##i) NUMBER(prefix, name##_##j) NUMBER(prefix, name##_##k)

/* What forward and backward begin with. */
#define CC1D_CALL_SLOTS(TENSOR, NUMBER, prefix)                                              \
    TENSOR(prefix, device const VALUE, x)                                                    \
    TENSOR(prefix, device const WEIGHT, weight)                                              \
    TENSOR(prefix, device const BIAS, bias)                                                  \
    TENSOR(prefix, device const ID, ids)                                                     \
    TENSOR(prefix, device const VALUE, initial)                                              \
    NUMBER(prefix, dim) NUMBER(prefix, seqlen) NUMBER(prefix, sequences) NUMBER(prefix, run) \
    CC1D_STRIDES(NUMBER, prefix, x, b, d, t)                                                 \
    NUMBER(prefix, bias_d) NUMBER(prefix, ids_b) NUMBER(prefix, ids_t)                       \
    CC1D_STRIDES(NUMBER, prefix, initial, n, d, k)

#define CC1D_FORWARD_SLOTS(TENSOR, NUMBER, prefix) \
    CC1D_CALL_SLOTS(TENSOR, NUMBER, prefix)        \
    TENSOR(prefix, device VALUE, out)              \
    TENSOR(prefix, device VALUE, final_states)     \
    CC1D_STRIDES(NUMBER, prefix, out, b, d, t)     \
    CC1D_STRIDES(NUMBER, prefix, final, n, d, k)

#define CC1D_BACKWARD_SLOTS(TENSOR, NUMBER, prefix) \
    CC1D_CALL_SLOTS(TENSOR, NUMBER, prefix)         \
    TENSOR(prefix, device const VALUE, dout)        \
    TENSOR(prefix, device const VALUE, dfinal)      \
    TENSOR(prefix, device VALUE, dx)                \
    TENSOR(prefix, device float, partial)           \
    CC1D_STRIDES(NUMBER, prefix, dout, b, d, t)     \
    CC1D_STRIDES(NUMBER, prefix, dfinal, n, d, k)   \
    CC1D_STRIDES(NUMBER, prefix, dx, b, d, t)

#define CC1D_REDUCE_SLOTS(TENSOR, NUMBER, prefix) \
    TENSOR(prefix, device const float, partial)   \
    TENSOR(prefix, device WEIGHT, dweight)        \
    TENSOR(prefix, device BIAS, dbias)            \
    NUMBER(prefix, dim) NUMBER(prefix, parts)     \
    NUMBER(prefix, dweight_d) NUMBER(prefix, dweight_k) NUMBER(prefix, dbias_d)

#define CC1D_STATES_SLOTS(TENSOR, NUMBER, prefix)                                               \
    TENSOR(prefix, device const VALUE, x)                                                       \
    TENSOR(prefix, device const ID, ids)                                                        \
    TENSOR(prefix, device const VALUE, initial)                                                 \
    TENSOR(prefix, device VALUE, states)                                                        \
    NUMBER(prefix, dim) NUMBER(prefix, seqlen) NUMBER(prefix, length) NUMBER(prefix, sequences) \
    NUMBER(prefix, in_place) /* whether the initial states are in the memory of `states` */     \
    CC1D_STRIDES(NUMBER, prefix, x, b, d, t)                                                    \
    NUMBER(prefix, ids_t)                                                                       \
    CC1D_STRIDES(NUMBER, prefix, initial, n, d, k)                                              \
    CC1D_STRIDES(NUMBER, prefix, states, n, d, k)

#define CC1D_UPDATE_SLOTS(TENSOR, NUMBER, prefix)                                          \
    TENSOR(prefix, device const VALUE, x)                                                  \
    TENSOR(prefix, device const WEIGHT, weight)                                            \
    TENSOR(prefix, device const BIAS, bias)                                                \
    TENSOR(prefix, device VALUE, state)                                                    \
    TENSOR(prefix, device const ID, cache_seqlens)                                         \
    TENSOR(prefix, device const ROW, indices)                                              \
    TENSOR(prefix, device VALUE, out)                                                      \
    NUMBER(prefix, dim) NUMBER(prefix, seqlen) NUMBER(prefix, length) NUMBER(prefix, pool) \
    CC1D_STRIDES(NUMBER, prefix, x, b, d, t)                                               \
    CC1D_STRIDES(NUMBER, prefix, out, b, d, t)                                             \
    CC1D_STRIDES(NUMBER, prefix, state, n, d, k)                                           \
    NUMBER(prefix, bias_d) NUMBER(prefix, cache_seqlens_b) NUMBER(prefix, indices_b)
/* clang-format on */

/* Their numbers, such as CC1D_FORWARD_out, and CC1D_FORWARD_SLOT_COUNT of them.  CC1D_CALL_x is
 * where forward and backward both have x. */
#define CC1D_TENSOR_SLOT(prefix, type, name) prefix##name,
#define CC1D_NUMBER_SLOT(prefix, name) prefix##name,
enum { CC1D_CALL_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_CALL_) CC1D_CALL_SLOT_COUNT };
enum {
    CC1D_FORWARD_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_FORWARD_) CC1D_FORWARD_SLOT_COUNT
};
enum {
    CC1D_BACKWARD_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_BACKWARD_) CC1D_BACKWARD_SLOT_COUNT
};
enum { CC1D_REDUCE_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_REDUCE_) CC1D_REDUCE_SLOT_COUNT };
enum { CC1D_STATES_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_STATES_) CC1D_STATES_SLOT_COUNT };
enum { CC1D_UPDATE_SLOTS(CC1D_TENSOR_SLOT, CC1D_NUMBER_SLOT, CC1D_UPDATE_) CC1D_UPDATE_SLOT_COUNT };

#endif
