/* Checks what the public interface refuses, with which status and message, that a refused call
 * writes nothing, that calls with an empty dimension work, and the small functions. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "testing.h"

#include "../../src/check/check.h"
#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"
#include "../../src/core/libtorch.h"

enum { BATCH = 2, DIM = 3, SEQLEN = 4, WIDTH = 3 };

/* The memory of good arguments.  Refused calls must leave all of it as it is. */
static struct memory {
    float x[24], weight[9], bias[3], dout[24], out[24], dx[24], dweight[9], dbias[3];
    float initial[12], final[12], dinitial[12], state[36];
    int32_t ids[8], packed[3], rows[2];
} memory, before;

static causal_conv1d_tensor tensor(void *data, int ndim, int64_t i, int64_t j, int64_t k)
{
    causal_conv1d_tensor t = {.data = data,
                              .dtype = CAUSAL_CONV1D_FLOAT32,
                              .ndim = ndim,
                              .size = {i, j, k},
                              .stride = {1, 1, 1}};
    for (int d = ndim - 2; d >= 0; d--) t.stride[d] = t.stride[d + 1] * t.size[d + 1];
    return t;
}

static causal_conv1d_tensor of_x(void *data)
{
    return tensor(data, 3, BATCH, DIM, SEQLEN);
}

static causal_conv1d_tensor of_states(void *data)
{
    return tensor(data, 3, BATCH, DIM, WIDTH - 1);
}

static causal_conv1d_tensor indices(void *data, int ndim, int64_t i, int64_t j)
{
    causal_conv1d_tensor t = tensor(data, ndim, i, j, 0);
    t.dtype = CAUSAL_CONV1D_INT32;
    return t;
}

static causal_conv1d_forward_args good_forward(void)
{
    return (causal_conv1d_forward_args){.x = of_x(memory.x),
                                        .weight = tensor(memory.weight, 2, DIM, WIDTH, 0),
                                        .bias = tensor(memory.bias, 1, DIM, 0, 0),
                                        .out = of_x(memory.out),
                                        .silu = true};
}

static causal_conv1d_backward_args good_backward(void)
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
static causal_conv1d_update_args good_update(void)
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
static causal_conv1d_varlen_states_args good_varlen_states(void)
{
    return (causal_conv1d_varlen_states_args){.x = tensor(memory.x, 3, 1, DIM, 8),
                                              .cu_seqlens = indices(memory.packed, 1, 3, 0),
                                              .states = of_states(memory.final)};
}

static void fill(void)
{
    for (size_t i = 0; i < offsetof(struct memory, ids) / sizeof(float); i++)
        ((float *)&memory)[i] = (float)(i % 7) - 3;
    memcpy(memory.ids, (int32_t[]){0, 0, 1, 1, -1, 2, 2, 2}, sizeof memory.ids);
    memcpy(memory.packed, (int32_t[]){0, 5, 8}, sizeof memory.packed);
    memcpy(memory.rows, (int32_t[]){2, 0}, sizeof memory.rows);
    before = memory;
}

static void check_refusal(const char *change, causal_conv1d_status got, causal_conv1d_status silent,
                          const char *message, causal_conv1d_status want, const char *part)
{
    check(got == want && silent == want, "%s: status %d, without error %d, expected %d", change,
          (int)got, (int)silent, (int)want);
    check(strstr(message, part) != NULL, "%s: message \"%s\" lacks \"%s\"", change, message, part);
    check(memcmp(&memory, &before, sizeof memory) == 0, "%s: something was written", change);
    fill();
}

/* change makes good arguments a bad. */
#define REFUSED(pass, change, want, part)                                            \
    do {                                                                             \
        causal_conv1d_##pass##_args a = good_##pass();                               \
        causal_conv1d_error error = {""};                                            \
        change;                                                                      \
        causal_conv1d_status got = causal_conv1d_##pass(&a, NULL, &error);           \
        check_refusal(#pass ": " #change, got, causal_conv1d_##pass(&a, NULL, NULL), \
                      error.message, CAUSAL_CONV1D_##want, part);                    \
    } while (0)

/* Inputs are checked by the same code in both. */
#define REFUSED_BOTH(change, want, part)       \
    do {                                       \
        REFUSED(forward, change, want, part);  \
        REFUSED(backward, change, want, part); \
    } while (0)

static void check_shapes(void)
{
    REFUSED_BOTH(a.x.ndim = 2, BAD_SHAPE,
                 "Expected 3D input tensor x (batch, dim, seqlen), got 2D");
    REFUSED_BOTH(a.x = (causal_conv1d_tensor){0}, BAD_SHAPE, "3D input tensor x");
    REFUSED_BOTH(a.weight.ndim = 3, BAD_SHAPE, "Expected 2D tensor weight (dim, width), got 3D");
    REFUSED_BOTH(a.weight = tensor(memory.weight, 3, DIM, 1, WIDTH), BAD_SHAPE,
                 "2D tensor weight (dim, width), got 3D (3, 1, 3), as nn.Conv1d has it: "
                 "weight.squeeze(1)");
    REFUSED(update, a.weight = tensor(memory.weight, 3, DIM, 1, WIDTH), BAD_SHAPE, ".squeeze(1)");
    REFUSED_BOTH(a.weight.size[0] = 4, BAD_SHAPE,
                 "weight (dim, width) with dim 4 does not match x (batch, dim, seqlen) with dim 3");
    REFUSED_BOTH(a.weight.size[1] = 0, BAD_SHAPE, "width >= 1, got 0");
    REFUSED_BOTH(a.bias.ndim = 2, BAD_SHAPE, "Expected 1D tensor bias (dim), got 2D");
    REFUSED_BOTH(a.bias.size[0] = 2, BAD_SHAPE, "bias (dim) with dim 2 does not match x");
    REFUSED(forward, a.out.ndim = 2, BAD_SHAPE, "Expected 3D tensor out");
    REFUSED(forward, a.out.size[0] = 1, BAD_SHAPE, "Size 1 of out in dimension 0 does not match");
    REFUSED(forward, a.out.size[2] = 5, BAD_SHAPE, "Size 5 of out in dimension 2 does not match");
    REFUSED(forward, a.out = (causal_conv1d_tensor){0}, BAD_SHAPE, "out");
    REFUSED(backward, a.dout.ndim = 1, BAD_SHAPE, "Expected 3D tensor dout");
    REFUSED(backward, a.dout.size[1] = 2, BAD_SHAPE, "Size 2 of dout in dimension 1");
    REFUSED(backward, a.dx.size[2] = 3, BAD_SHAPE, "Size 3 of dx in dimension 2");
    REFUSED(backward, a.dx = (causal_conv1d_tensor){0}, BAD_SHAPE, "dx");
    REFUSED(backward, a.dweight.ndim = 3, BAD_SHAPE, "Expected 2D tensor dweight");
    REFUSED(backward, a.dweight.size[1] = 2, BAD_SHAPE, "Size 2 of dweight in dimension 1");
    REFUSED(backward, a.dweight = (causal_conv1d_tensor){0}, BAD_SHAPE, "dweight");
    REFUSED(backward, a.dbias.ndim = 2, BAD_SHAPE, "Expected 1D tensor dbias");
    REFUSED(backward, a.dbias.size[0] = 4, BAD_SHAPE, "Size 4 of dbias in dimension 0");
}

static void check_sizes(void)
{
    const int64_t huge = INT64_MAX;
    REFUSED_BOTH(a.x.size[0] = -1, BAD_SHAPE, "Expected sizes >= 0 in x, got -1 in dimension 0");
    REFUSED_BOTH(a.weight.size[1] = -2, BAD_SHAPE, "Expected sizes >= 0 in weight, got -2");
    REFUSED_BOTH(a.bias.size[0] = -3, BAD_SHAPE, "Expected sizes >= 0 in bias, got -3");
    REFUSED_BOTH(a.x.size[0] = huge, BAD_SHAPE, "sizes and strides of x that fit 63 bits");
    REFUSED_BOTH(a.x.size[2] = huge / 90, BAD_SHAPE, "sizes and strides of x that fit 63 bits");
    REFUSED_BOTH(a.x.stride[0] = huge / 2, BAD_SHAPE, "sizes and strides of x that fit 63 bits");
    REFUSED_BOTH(a.x.stride[2] = INT64_MIN, BAD_SHAPE, "sizes and strides of x that fit 63 bits");
    REFUSED_BOTH(a.x.stride[0] = a.x.stride[1] = huge / 12, BAD_SHAPE, "sizes and strides of x");
    REFUSED_BOTH(a.weight.size[1] = huge, BAD_SHAPE, "sizes and strides of weight that fit");
    REFUSED_BOTH(a.bias.stride[0] = huge / 4, BAD_SHAPE, "sizes and strides of bias that fit");
    REFUSED(forward, a.out.stride[1] = huge / 4, BAD_SHAPE, "sizes and strides of out that fit");
    REFUSED(backward, a.dx.stride[1] = -huge / 4, BAD_SHAPE, "sizes and strides of dx that fit");
}

static void check_dtypes(void)
{
    const causal_conv1d_dtype other = CAUSAL_CONV1D_OTHER, half = CAUSAL_CONV1D_FLOAT16;
    REFUSED_BOTH(a.x.dtype = other, BAD_DTYPE,
                 "Expected x of dtype float32, float16, bfloat16 or float64, got another dtype");
    REFUSED_BOTH(a.x.dtype = CAUSAL_CONV1D_NONE, BAD_DTYPE, "got none");
    REFUSED_BOTH(a.x.dtype = (causal_conv1d_dtype)99, BAD_DTYPE, "Expected x of dtype");
    REFUSED_BOTH(a.x.dtype = (causal_conv1d_dtype)-1, BAD_DTYPE, "got another dtype");
    REFUSED_BOTH(a.weight.dtype = CAUSAL_CONV1D_INT64, BAD_DTYPE, "float64, got int64");
    REFUSED_BOTH(a.weight.dtype = other, BAD_DTYPE, "Expected weight of dtype");
    REFUSED_BOTH(a.weight.dtype = CAUSAL_CONV1D_NONE, BAD_DTYPE, "Expected weight of dtype");
    REFUSED_BOTH(a.bias.dtype = other, BAD_DTYPE, "Expected bias of dtype");
    REFUSED(forward, a.out.dtype = other, BAD_DTYPE, "Expected out of dtype");
    REFUSED(forward, a.out.dtype = half, BAD_DTYPE,
            "Expected out of x's dtype, float32, got float16, which does not match");
    REFUSED(backward, a.dout.dtype = half, BAD_DTYPE, "Expected dout of x's dtype");
    REFUSED(backward, a.dx.dtype = half, BAD_DTYPE, "Expected dx of x's dtype");
    REFUSED(backward, a.dx.dtype = CAUSAL_CONV1D_NONE, BAD_DTYPE, "Expected dx of dtype");
    REFUSED(backward, a.dweight.dtype = other, BAD_DTYPE, "Expected dweight of dtype");
    REFUSED(backward, a.dweight.dtype = CAUSAL_CONV1D_NONE, BAD_DTYPE, "Expected dweight of dtype");
    REFUSED(backward, a.dbias.dtype = other, BAD_DTYPE, "Expected dbias of dtype");
}

static void check_devices(void)
{
    const causal_conv1d_device gpu = CAUSAL_CONV1D_OTHER_DEVICE;
    REFUSED_BOTH(a.x.device = gpu, BAD_DEVICE,
                 "Expected weight on the device of x, another device, got one on cpu");
    REFUSED_BOTH(a.weight.device_index = 1, BAD_DEVICE,
                 "Expected weight on the device of x, cpu, got one on cpu:1");
    REFUSED_BOTH(a.weight.device = CAUSAL_CONV1D_CUDA, BAD_DEVICE, "x, cpu, got one on cuda:0");
    REFUSED_BOTH(a.weight.device = CAUSAL_CONV1D_MPS, BAD_DEVICE, "x, cpu, got one on mps:0");
    REFUSED_BOTH(a.bias.device = gpu, BAD_DEVICE, "Expected bias on the device of x");
    REFUSED_BOTH(a.x.device = a.weight.device = a.bias.device = gpu, BAD_DEVICE,
                 "Expected x on a CPU, Apple GPU (mps) or NVIDIA GPU (cuda), got one on another");
    for (int i = -1; i <= 4; i += 5) { /* no value of the enum */
        const causal_conv1d_device none = (causal_conv1d_device)i;
        REFUSED_BOTH(a.x.device = a.weight.device = a.bias.device = none, BAD_DEVICE,
                     "Expected x on a CPU, Apple GPU (mps) or NVIDIA GPU (cuda), got one on");
    }
    REFUSED(forward, a.out.device = gpu, BAD_DEVICE, "Expected out on the device of x");
    REFUSED(backward, a.dout.device = gpu, BAD_DEVICE, "Expected dout on the device of x");
    REFUSED(backward, a.dx.device_index = 2, BAD_DEVICE, "Expected dx on the device of x");
    REFUSED(backward, a.dweight.device = gpu, BAD_DEVICE, "Expected dweight on the device of x");
    REFUSED(backward, a.dbias.device = gpu, BAD_DEVICE, "Expected dbias on the device of x");
}

static void check_memory(void)
{
    REFUSED_BOTH(a.x.data = NULL, BAD_MEMORY, "Expected data in x, got NULL");
    REFUSED_BOTH(a.weight.data = NULL, BAD_MEMORY, "Expected data in weight, got NULL");
    REFUSED_BOTH(a.bias.data = NULL, BAD_MEMORY, "Expected data in bias, got NULL");
    REFUSED(forward, a.out.data = NULL, BAD_MEMORY, "Expected data in out, got NULL");
    REFUSED(backward, a.dout.data = NULL, BAD_MEMORY, "Expected data in dout, got NULL");
    REFUSED(backward, a.dx.data = NULL, BAD_MEMORY, "Expected data in dx, got NULL");
    REFUSED(backward, a.dweight.data = NULL, BAD_MEMORY, "Expected data in dweight, got NULL");
    REFUSED(backward, a.dbias.data = NULL, BAD_MEMORY, "Expected data in dbias, got NULL");

    REFUSED(forward, a.out.data = a.x.data, BAD_MEMORY, "got an overlap with x");
    REFUSED(forward, a.out.data = memory.x + 23, BAD_MEMORY, "got an overlap with x");
    REFUSED(forward, a.x.data = memory.out + 23, BAD_MEMORY, "got an overlap with x");
    REFUSED(forward, a.weight.data = memory.out + 20, BAD_MEMORY, "overlap with weight");
    REFUSED(forward, a.bias.data = memory.out + 7, BAD_MEMORY, "overlap with bias");
    /* Strides backwards: the memory lies before data. */
    REFUSED(forward, (a.out.data = memory.dout + 8, a.out.stride[0] = -12), BAD_MEMORY, "overlap");
    REFUSED(backward, a.dx.data = memory.dout, BAD_MEMORY, "Expected dx in memory of its own");
    REFUSED(backward, a.dx.data = memory.x, BAD_MEMORY, "got an overlap with x");
    REFUSED(backward, a.dweight.data = memory.weight, BAD_MEMORY, "dweight in memory of its own");
    REFUSED(backward, a.dweight.data = memory.dx, BAD_MEMORY, "got an overlap with dweight");
    REFUSED(backward, a.dbias.data = memory.bias, BAD_MEMORY, "Expected dbias in memory");
    REFUSED(backward, a.dbias.data = memory.dweight + 8, BAD_MEMORY, "got an overlap with dbias");

    /* Memory that is interleaved: rows of out take two of three elements. */
    REFUSED(forward,
            (a.out.data = memory.x, a.out.size[1] = a.x.size[1] = 1, a.weight.size[0] = 1,
             a.bias.size[0] = 1, a.out.stride[2] = 3, a.x.stride[2] = 2, a.x.data = memory.x + 3),
            BAD_MEMORY, "got an overlap with x");
    const char *const shared = "without elements that share memory";
    REFUSED(forward, a.out.stride[2] = 0, BAD_MEMORY, shared);
    REFUSED(forward, a.out.stride[1] = 1, BAD_MEMORY, shared);
    REFUSED(forward, a.out.stride[1] = -3, BAD_MEMORY, shared);
    REFUSED(backward, a.dx.stride[0] = 0, BAD_MEMORY, shared);
    REFUSED(backward, a.dweight.stride[0] = 2, BAD_MEMORY, shared);
    REFUSED(backward, a.dbias.stride[0] = 0, BAD_MEMORY, shared);

    /* A workspace of 3 * 2^59 bytes; the addresses are never reached. */
    const int64_t dim = (int64_t)1 << 57;
    REFUSED(
        backward,
        (a.x.size[1] = a.dout.size[1] = a.dx.size[1] = a.weight.size[0] = a.dweight.size[0] = dim,
         a.x.size[0] = a.dout.size[0] = a.dx.size[0] = 1,
         a.x.size[2] = a.dout.size[2] = a.dx.size[2] = 1, a.dx.stride[1] = 1,
         a.x.stride[1] = a.dout.stride[1] = a.weight.stride[0] = 0,
         a.weight.size[1] = a.dweight.size[1] = a.dweight.stride[0] = 2,
         a.dx.data = (void *)((uintptr_t)1 << 60), a.dweight.data = (void *)((uintptr_t)3 << 60),
         a.bias = a.dbias = (causal_conv1d_tensor){0}),
        OUT_OF_MEMORY, "the workspace could not be allocated");
}

static void check_sequences(void)
{
    const causal_conv1d_dtype f32 = CAUSAL_CONV1D_FLOAT32, int64 = CAUSAL_CONV1D_INT64;
    REFUSED_BOTH(a.seq_idx = indices(memory.ids, 1, 8, 0), BAD_SHAPE, "Expected 2D tensor seq_idx");
    REFUSED_BOTH(a.seq_idx = indices(memory.ids, 2, 4, 2), BAD_SHAPE, "Size 4 of seq_idx");
    REFUSED_BOTH(a.seq_idx = tensor(memory.ids, 2, BATCH, SEQLEN, 0), BAD_DTYPE,
                 "Expected seq_idx of dtype int32 or int64, got float32");
    REFUSED_BOTH(a.seq_idx = indices(NULL, 2, BATCH, SEQLEN), BAD_MEMORY, "data in seq_idx");
    REFUSED_BOTH((a.seq_idx = indices(memory.ids, 2, BATCH, SEQLEN), a.seq_idx.device_index = 1),
                 BAD_DEVICE, "Expected seq_idx on the device of x");
    REFUSED_BOTH((a.seq_idx = indices(memory.ids, 2, BATCH, SEQLEN),
                  a.cu_seqlens = indices(memory.packed, 1, 3, 0)),
                 BAD_COMBINATION, "Expected seq_idx or cu_seqlens, got both");
    REFUSED(forward,
            (a.seq_idx = indices(memory.ids, 2, BATCH, SEQLEN),
             a.final_states = of_states(memory.final)),
            BAD_COMBINATION, "Expected seq_idx without final states");

    REFUSED_BOTH(a.cu_seqlens = indices(memory.packed, 1, 3, 0), BAD_SHAPE,
                 "Expected x (1, dim, total) beside cu_seqlens, got 3D with batch 2");
#define PACKED \
    (a.x = tensor(memory.x, 3, 1, DIM, 8), a.cu_seqlens = indices(memory.packed, 1, 3, 0))
    REFUSED_BOTH((PACKED, a.cu_seqlens.ndim = 2), BAD_SHAPE, "Expected 1D tensor cu_seqlens");
    REFUSED_BOTH((PACKED, a.cu_seqlens.size[0] = 0), BAD_SHAPE, "of sequences + 1 elements");
    REFUSED_BOTH((PACKED, a.cu_seqlens.dtype = f32), BAD_DTYPE, "Expected cu_seqlens of dtype int");
    REFUSED_BOTH((PACKED, a.cu_seqlens.data = NULL), BAD_MEMORY, "Expected data in cu_seqlens");
    REFUSED_BOTH((PACKED, a.cu_seqlens.device = CAUSAL_CONV1D_OTHER_DEVICE), BAD_DEVICE,
                 "Expected cu_seqlens on the device of x");
    REFUSED_BOTH((PACKED, a.cu_seqlens.data = memory.packed + 1, a.cu_seqlens.size[0] = 2),
                 BAD_VALUE, "begin with 0 and never fall, got 5 at 0");
    REFUSED_BOTH((PACKED, a.cu_seqlens.data = memory.ids + 3, a.cu_seqlens.size[0] = 2), BAD_VALUE,
                 "never fall, got 1 at 0");
    REFUSED_BOTH((PACKED, a.cu_seqlens.data = memory.ids + 1, a.cu_seqlens.size[0] = 4), BAD_VALUE,
                 "never fall, got -1 at 3");
    REFUSED_BOTH(
        (PACKED, memory.packed[2] = before.packed[2] = 9), BAD_VALUE,
        "The last element of cu_seqlens, 9, does not match the total of x, 8: it is larger");
    REFUSED_BOTH((PACKED, a.initial_states = tensor(memory.initial, 3, 1, DIM, 2)), BAD_SHAPE,
                 "Size 1 of initial_states in dimension 0");
#undef PACKED

    REFUSED_BOTH(a.x.dtype = int64, BAD_DTYPE, "Expected x of dtype float32");
    REFUSED_BOTH(a.initial_states = tensor(memory.initial, 3, BATCH, DIM, 1), BAD_SHAPE,
                 "Size 1 of initial_states in dimension 2");
    REFUSED_BOTH((a.initial_states = of_states(memory.initial),
                  a.initial_states.dtype = CAUSAL_CONV1D_BFLOAT16),
                 BAD_DTYPE, "Expected initial_states of x's dtype");
    REFUSED(forward, a.final_states = of_states(NULL), BAD_MEMORY, "data in final_states");
    REFUSED(forward, a.final_states = of_states(memory.x), BAD_MEMORY, "overlap with x");
    REFUSED(forward, a.final_states = of_states(memory.out + 23), BAD_MEMORY, "overlap with final");
    REFUSED(forward,
            (a.initial_states = of_states(memory.initial),
             a.final_states = of_states(memory.initial + 1)),
            BAD_MEMORY, "Expected final_states in memory of its own");
    REFUSED(backward, a.dfinal_states = tensor(memory.final, 3, BATCH, 2, 2), BAD_SHAPE,
            "Size 2 of dfinal_states in dimension 1");
    REFUSED(backward, a.dinitial_states = tensor(memory.dinitial, 2, BATCH, DIM, 0), BAD_SHAPE,
            "Expected 3D tensor dinitial_states");
    REFUSED(backward, a.dinitial_states = of_states(memory.dx), BAD_MEMORY,
            "Expected dx in memory of its own, got an overlap with dinitial_states");
}

static void check_updates(void)
{
    REFUSED(update, a.x.ndim = 2, BAD_SHAPE, "Expected 3D input tensor x");
    REFUSED(update, a.conv_state.ndim = 2, BAD_SHAPE,
            "Expected conv_state (batch, dim, state_len)");
    REFUSED(update, a.conv_state.size[2] = 1, BAD_SHAPE,
            "state_len >= width - 1 = 2, got 3D with 1");
    REFUSED(update, a.conv_state.size[1] = 2, BAD_SHAPE, "Size 2 of conv_state in dimension 1");
    REFUSED(update, a.conv_state_indices = (causal_conv1d_tensor){0}, BAD_SHAPE,
            "Size 3 of conv_state in dimension 0 does not match: expected 2");
    REFUSED(update, a.conv_state.dtype = CAUSAL_CONV1D_FLOAT64, BAD_DTYPE,
            "conv_state of x's dtype");
    REFUSED(update, a.conv_state.data = NULL, BAD_MEMORY, "Expected data in conv_state");
    REFUSED(update, a.conv_state.stride[0] = 0, BAD_MEMORY, "Expected conv_state without elements");
    REFUSED(update, a.conv_state.data = memory.x, BAD_MEMORY, "Expected conv_state in memory");
    REFUSED(update, a.out.data = memory.state, BAD_MEMORY, "got an overlap with conv_state");
    REFUSED(update, a.out.size[2] = 3, BAD_SHAPE, "Size 3 of out in dimension 2");
    REFUSED(update, a.conv_state_indices.dtype = CAUSAL_CONV1D_FLOAT32, BAD_DTYPE,
            "Expected conv_state_indices of dtype int32 or int64");
    REFUSED(update, a.conv_state_indices.size[0] = 3, BAD_SHAPE, "Size 3 of conv_state_indices");
    REFUSED(update, a.conv_state_indices.data = memory.packed, BAD_VALUE,
            "Expected conv_state_indices below 3, the size of conv_state, got 5 at 1");
    REFUSED(update, a.cache_seqlens = indices(memory.rows, 1, 1, 0), BAD_SHAPE,
            "Size 1 of cache_seqlens in dimension 0");
    REFUSED(update, a.cache_seqlens = tensor(memory.rows, 1, BATCH, 0, 0), BAD_DTYPE,
            "Expected cache_seqlens of dtype int32 or int64");

    REFUSED(varlen_states, a.x = of_x(memory.x), BAD_SHAPE, "Expected x (1, dim, total)");
    REFUSED(varlen_states, a.x.dtype = CAUSAL_CONV1D_OTHER, BAD_DTYPE, "Expected x of dtype");
    REFUSED(varlen_states, a.cu_seqlens = (causal_conv1d_tensor){0}, BAD_SHAPE,
            "1D tensor cu_seqlens");
    REFUSED(varlen_states, memory.packed[2] = before.packed[2] = 9, BAD_VALUE,
            "The last element of cu_seqlens, 9");
    REFUSED(varlen_states, a.states.ndim = 2, BAD_SHAPE, "Expected 3D tensor states");
    REFUSED(varlen_states, a.states.size[0] = 1, BAD_SHAPE, "Size 1 of states in dimension 0");
    REFUSED(varlen_states, a.states.dtype = CAUSAL_CONV1D_FLOAT16, BAD_DTYPE,
            "states of x's dtype");
    REFUSED(varlen_states, a.states.data = memory.x + 23, BAD_MEMORY, "overlap with x");
}

/* Sanitizers would rather abort than let malloc fail. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void check_good(void)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    const causal_conv1d_threads none = {NULL, NULL};
    causal_conv1d_error error;
    f.silu = b.silu = false;
    check(causal_conv1d_forward(&f, NULL, NULL) == CAUSAL_CONV1D_OK, "forward");
    /* Batch 0, channel 1, time 0: only the last tap sees x. */
    check(memory.out[4] == before.bias[1] + before.weight[5] * before.x[4], "forward: a value");
    check(causal_conv1d_backward(&b, &none, &error) == CAUSAL_CONV1D_OK, "backward");
    float sum = 0;
    for (int i = 0; i < BATCH * SEQLEN; i++) sum += before.dout[i / SEQLEN * 12 + i % SEQLEN];
    check(memory.dbias[0] == sum, "backward: dbias");
    check(!memcmp(memory.x, before.x, sizeof before.x) &&
              !memcmp(memory.weight, before.weight, sizeof before.weight) &&
              !memcmp(memory.bias, before.bias, sizeof before.bias) &&
              !memcmp(memory.dout, before.dout, sizeof before.dout),
          "inputs were written");
    fill();
    b.dbias = (causal_conv1d_tensor){0};
    check(causal_conv1d_backward(&b, NULL, NULL) == CAUSAL_CONV1D_OK, "backward without dbias");
    check(!memcmp(memory.dbias, before.dbias, sizeof before.dbias), "dbias was written");
    fill();
    /* Inputs may share memory with each other. */
    b.dout.data = b.x.data;
    check(causal_conv1d_backward(&b, NULL, NULL) == CAUSAL_CONV1D_OK, "backward with dout = x");
    fill();
    /* Final states may take the place of the initial ones. */
    f.initial_states = f.final_states = of_states(memory.initial);
    check(causal_conv1d_forward(&f, NULL, &error) == CAUSAL_CONV1D_OK, "states in place");
    check(memory.initial[0] == before.x[2] && memory.initial[1] == before.x[3], "a final state");
    fill();
    causal_conv1d_update_args u = good_update();
    check(causal_conv1d_update(&u, NULL, &error) == CAUSAL_CONV1D_OK, "update");
    check(!memcmp(memory.state + 24, before.x, sizeof(float) * 12) &&
              !memcmp(memory.state, before.x + 12, sizeof(float) * 12) &&
              !memcmp(memory.state + 12, before.state + 12, sizeof(float) * 12),
          "states after update");
    fill();
    causal_conv1d_varlen_states_args v = good_varlen_states();
    check(causal_conv1d_varlen_states(&v, NULL, &error) == CAUSAL_CONV1D_OK, "varlen_states");
    for (int n = 0; n < 2; n++)
        for (int d = 0; d < DIM; d++)
            check(!memcmp(memory.final + (n * DIM + d) * 2,
                          before.x + d * 8 + before.packed[n + 1] - 2, sizeof(float) * 2),
                  "state of sequence %d, channel %d", n, d);
    fill();
}

/* What PyTorch would say of a storage offset: that the handle is a pointer to it. */
static AOTITorchError storage_offset(AtenTensorHandle handle, int64_t *offset)
{
    *offset = *(int64_t *)handle;
    return 0;
}

/* Slices of one memory: taken if, and only if, they share no element. */
static void check_slices(void)
{
    enum { COLUMNS = 5 };
    float buffer[BATCH * DIM * COLUMNS], columns[BATCH * DIM * COLUMNS];
    causal_conv1d_error error = {""};
    for (int column = 0; column < COLUMNS; column++) {
        causal_conv1d_update_args u = good_update();
        for (int i = 0; i < BATCH * DIM * COLUMNS; i++) buffer[i] = columns[i] = (float)i;
        u.conv_state_indices = (causal_conv1d_tensor){0};
        u.conv_state = tensor(buffer, 3, BATCH, DIM, COLUMNS - 1);
        u.x = tensor(buffer + column, 3, BATCH, DIM, 1);
        u.out.size[2] = 1;
        u.x.stride[0] = u.conv_state.stride[0] = DIM * COLUMNS;
        u.x.stride[1] = u.conv_state.stride[1] = COLUMNS;
        causal_conv1d_status status = causal_conv1d_update(&u, NULL, &error);
        if (column < COLUMNS - 1) {
            check(status == CAUSAL_CONV1D_BAD_MEMORY && strstr(error.message, "overlap with x"),
                  "x in column %d of the states", column);
            check(!memcmp(buffer, columns, sizeof buffer), "a refused update wrote");
        } else {
            check(status == CAUSAL_CONV1D_OK, "x in the column after the states: %s",
                  error.message);
            for (int i = 0; i < BATCH * DIM; i++)
                check(!memcmp(buffer + i * COLUMNS, columns + i * COLUMNS + 1, 4 * sizeof(float)) &&
                          buffer[i * COLUMNS + 4] == columns[i * COLUMNS + 4],
                      "the states of row %d", i);
        }
        fill();
    }

    /* Every second element of one memory each, and out in one that overlaps itself nowhere though
     * its strides do not nest. */
    float mixed[96], plain[24];
    causal_conv1d_forward_args f = good_forward();
    check(!causal_conv1d_forward(&f, NULL, &error), "%s", error.message);
    memcpy(plain, memory.out, sizeof plain);
    const int64_t strides[][3] = {{24, 8, 2}, {2, 4, 16}, {6, 4, 16}};
    for (int i = 0; i < 3; i++) {
        f.x.data = mixed, f.out.data = mixed + 1;
        for (int d = 0; d < 3; d++) f.x.stride[d] = f.out.stride[d] = strides[i][d];
        for (int n = 0; n < 24; n++)
            mixed[n / 12 * strides[i][0] + n / 4 % 3 * strides[i][1] + n % 4 * strides[i][2]] =
                before.x[n];
        check(!causal_conv1d_forward(&f, NULL, &error), "alternate elements: %s", error.message);
        for (int n = 0; n < 24; n++)
            check(fabsf(mixed[n / 12 * strides[i][0] + n / 4 % 3 * strides[i][1] +
                              n % 4 * strides[i][2] + 1] -
                        plain[n]) < 1e-5f,
                  "element %d of out", n);
    }
    fill();
    causal_conv1d_backward_args b = good_backward();
    b.dx.stride[0] = 2, b.dx.stride[1] = 3; /* 0, 1, .. from several elements each */
    check(causal_conv1d_backward(&b, NULL, &error) == CAUSAL_CONV1D_BAD_MEMORY, "entangled dx");
    fill();

    /* On an Apple GPU data is an object plus an offset, here of objects 16 bytes apart: only the
     * same object's offsets count.  Where nothing overlaps the call goes on to the GPU. */
    AOTITorchError (*const saved)(AtenTensorHandle, int64_t *) =
        cc1d_torch.aoti_torch_get_storage_offset;
    cc1d_torch.aoti_torch_get_storage_offset = storage_offset;
    for (int i = 0; i < 4; i++) {
        const bool same_object = i & 1, apart = i & 2;
        int64_t offsets[5] = {0, apart ? 24 : 4, 0, 0, 0};
        char *objects = (char *)memory.x;
        causal_conv1d_update_args u = good_update();
        u.conv_state_indices = (causal_conv1d_tensor){0};
        u.x = tensor(objects, 3, BATCH, DIM, 1);
        u.conv_state = tensor(objects + (same_object ? 0 : 16) + offsets[1] * 4, 3, BATCH, DIM, 4);
        u.out.size[2] = 1;
        u.weight.data = objects + 32, u.bias.data = objects + 48, u.out.data = objects + 64;
        causal_conv1d_tensor *tensors[] = {&u.x, &u.conv_state, &u.weight, &u.bias, &u.out};
        for (int j = 0; j < 5; j++)
            tensors[j]->device = CAUSAL_CONV1D_MPS, tensors[j]->handle = &offsets[j];
        causal_conv1d_status status = cc1d_check_update(&u, &error);
        check(status == (same_object && !apart ? CAUSAL_CONV1D_BAD_MEMORY : CAUSAL_CONV1D_OK),
              "%s object, offsets %s: %s", same_object ? "one" : "another",
              apart ? "apart" : "that overlap", error.message);
    }
    cc1d_torch.aoti_torch_get_storage_offset = saved;
    fill();
}

/* Packed x with times after its last sequence. */
static void check_padding(void)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    causal_conv1d_varlen_states_args v = good_varlen_states();
    causal_conv1d_error error = {""};
    const int64_t first[] = {0, 5, 8};
    f.x = v.x, f.cu_seqlens = v.cu_seqlens;
    for (int n = 0; n <= 2; n++) {
        f.out = tensor(memory.out, 3, 1, DIM, 8);
        f.cu_seqlens.size[0] = v.cu_seqlens.size[0] = n + 1;
        f.final_states = v.states = tensor(memory.final, 3, n, DIM, WIDTH - 1);
        check(!causal_conv1d_forward(&f, NULL, &error), "%d sequences: %s", n, error.message);
        float out[24];
        memcpy(out, memory.out, sizeof out);
        fill();
        causal_conv1d_forward_args alone = f;
        alone.x.size[2] = alone.out.size[2] = first[n];
        check(!causal_conv1d_forward(&alone, NULL, &error), "alone: %s", error.message);
        for (int i = 0; i < DIM * 8; i++)
            check(out[i] == (i % 8 < first[n] ? memory.out[i] : 0), "%d sequences: out %d", n, i);
        check(n == 2 || memory.final[n * DIM * 2] == before.final[n * DIM * 2], "no state");
        fill();
        check(!causal_conv1d_varlen_states(&v, NULL, &error), "%d states: %s", n, error.message);
        check(n == 0 || memory.final[1] == before.x[4], "the state of sequence 0");
        check(n == 2 || memory.final[n * DIM * 2] == before.final[n * DIM * 2], "no state");
        fill();
        b.x = f.x, b.cu_seqlens = f.cu_seqlens, b.silu = false;
        b.dout = tensor(memory.dout, 3, 1, DIM, 8), b.dx = f.out, b.dx.data = memory.dx;
        check(!causal_conv1d_backward(&b, NULL, &error), "%d sequences: %s", n, error.message);
        float sum = 0;
        for (int t = 0; t < first[n]; t++) sum += before.dout[t];
        check(memory.dbias[0] == sum, "%d sequences: dbias", n);
        for (int i = 0; i < DIM * 8; i++)
            check(i % 8 < first[n] || memory.dx[i] == 0, "%d sequences: dx %d", n, i);
        fill();
    }
}

/* Strides of dimensions of one element, and sizes and strides of tensors of none, may be anything;
 * with UBSan nothing is computed from them. */
static void check_extremes(void)
{
    const int64_t strides[] = {INT64_MIN, INT64_MAX, (int64_t)1 << 62, -1, 0};
    const int64_t huge = (int64_t)1 << 62;
    causal_conv1d_error error = {""};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++)
        for (int one = 0; one < 8; one++) {
            const int64_t size[] = {one & 1 ? 1 : BATCH, one & 2 ? 1 : DIM, one & 4 ? 1 : SEQLEN};
            causal_conv1d_forward_args f = good_forward();
            causal_conv1d_backward_args b = good_backward();
            causal_conv1d_update_args u = good_update();
            f.initial_states = of_states(memory.initial), f.final_states = of_states(memory.final);
            b.initial_states = f.initial_states, b.dinitial_states = of_states(memory.dinitial);
            u.conv_state_indices = (causal_conv1d_tensor){0};
            u.conv_state.size[0] = size[0];
            causal_conv1d_tensor *const all[] = {&f.x,
                                                 &f.out,
                                                 &b.x,
                                                 &b.dout,
                                                 &b.dx,
                                                 &u.x,
                                                 &u.out,
                                                 &f.initial_states,
                                                 &f.final_states,
                                                 &b.initial_states,
                                                 &b.dinitial_states,
                                                 &u.conv_state};
            for (int j = 0; j < 12; j++)
                for (int d = 0; d < 3; d++) {
                    if (d < 2 || j < 7) all[j]->size[d] = size[d];
                    if (all[j]->size[d] == 1) all[j]->stride[d] = strides[i];
                }
            causal_conv1d_tensor *const parameters[] = {&f.weight, &f.bias, &b.weight,  &b.bias,
                                                        &u.weight, &u.bias, &b.dweight, &b.dbias};
            for (int j = 0; j < 8; j++) {
                parameters[j]->size[0] = size[1];
                if (size[1] == 1) parameters[j]->stride[0] = strides[i];
            }
            check(!causal_conv1d_forward(&f, NULL, &error), "forward: %s", error.message);
            check(memory.out[0] != before.out[0], "a value of out");
            check(!causal_conv1d_backward(&b, NULL, &error), "backward: %s", error.message);
            check(!causal_conv1d_update(&u, NULL, &error), "update: %s", error.message);
            fill();
        }
    /* x of (huge, huge, 0) and its like, of which not a tile may be visited. */
    for (int zero = 0; zero < 3; zero++)
        for (int null = 0; null < 2; null++) {
            causal_conv1d_forward_args f = good_forward();
            causal_conv1d_backward_args b = good_backward();
            causal_conv1d_update_args u = good_update();
            causal_conv1d_tensor *const all[] = {&f.x, &f.out, &b.x, &b.dout, &b.dx, &u.x, &u.out};
            for (int j = 0; j < 7; j++)
                for (int d = 0; d < 3; d++) {
                    if (null) all[j]->data = NULL;
                    all[j]->size[d] = d == zero ? 0 : d == 1 ? DIM : huge;
                    all[j]->stride[d] = d == 1 ? INT64_MIN : INT64_MAX;
                }
            f.weight.size[0] = f.bias.size[0] = zero == 1 ? 0 : DIM;
            b.weight = u.weight = f.weight, b.bias = u.bias = f.bias;
            b.dweight.size[0] = b.dbias.size[0] = f.bias.size[0];
            u.conv_state_indices = (causal_conv1d_tensor){0};
            u.conv_state.size[0] = zero == 0 ? 0 : huge;
            u.conv_state.size[1] = f.bias.size[0];
            check(!causal_conv1d_forward(&f, NULL, &error), "empty forward: %s", error.message);
            check(!causal_conv1d_backward(&b, NULL, &error), "empty backward: %s", error.message);
            if (zero < 2)
                check(!causal_conv1d_update(&u, NULL, &error), "empty update: %s", error.message);
            check(zero == 1 || memory.dweight[0] == 0, "dweight of nothing");
            fill();
            /* Of width 1, with states that have no columns. */
            f.weight.size[1] = b.weight.size[1] = b.dweight.size[1] = 1;
            f.initial_states = tensor(NULL, 3, f.x.size[0], f.x.size[1], 0);
            f.final_states = b.initial_states = b.dinitial_states = f.initial_states;
            check(!causal_conv1d_forward(&f, NULL, &error), "no columns: %s", error.message);
            check(!causal_conv1d_backward(&b, NULL, &error), "no columns: %s", error.message);
            fill();
        }
    causal_conv1d_update_args u = good_update();
    u.x.size[0] = u.out.size[0] = u.conv_state.size[0] = INT64_MAX;
    u.x.size[1] = u.out.size[1] = u.conv_state.size[1] = u.weight.size[0] = u.bias.size[0] = 0;
    u.x.size[2] = u.out.size[2] = 1, u.conv_state_indices = (causal_conv1d_tensor){0};
    check(!causal_conv1d_update(&u, NULL, &error), "an update of no channels: %s", error.message);
    fill();
    /* No times and no memory for them, but states. */
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    for (int last = 0; last < 2; last++) {
        f.x = b.x = b.dout = tensor(NULL, 3, BATCH, DIM, 0);
        if (last) f.x.stride[1] = b.x.stride[1] = b.dout.stride[1] = 1;
        f.out = b.dx = f.x;
        f.initial_states = b.initial_states = of_states(memory.initial);
        f.final_states = of_states(memory.final), b.dinitial_states = of_states(memory.dinitial);
        b.dfinal_states = of_states(memory.dout);
        check(!causal_conv1d_forward(&f, NULL, &error), "states alone: %s", error.message);
        check(!causal_conv1d_backward(&b, NULL, &error), "states alone: %s", error.message);
        check(!memcmp(memory.final, before.initial, sizeof memory.final) &&
                  !memcmp(memory.dinitial, before.dout, sizeof memory.dinitial),
              "states over no times");
        fill();
    }
}

/* Calls on no elements at all, in both layouts, with and without memory: dweight and dbias are 0.
 */
static void check_empty(int64_t batch, int64_t dim, int64_t seqlen, bool channels_last, bool null)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    causal_conv1d_tensor *tensors[] = {&f.x, &f.out, &b.x, &b.dout, &b.dx};
    for (int i = 0; i < 5; i++) {
        *tensors[i] = tensor(null ? NULL : tensors[i]->data, 3, batch, dim, seqlen);
        if (channels_last) tensors[i]->stride[1] = 1, tensors[i]->stride[2] = dim < 9 ? 9 : dim;
    }
    f.weight.size[0] = f.bias.size[0] = dim;
    b.weight = f.weight, b.bias = f.bias;
    b.dweight.size[0] = b.dbias.size[0] = dim;
    causal_conv1d_error error = {""};
    check(causal_conv1d_forward(&f, NULL, &error) == CAUSAL_CONV1D_OK,
          "forward of (%lld,%lld,%lld): %s", (long long)batch, (long long)dim, (long long)seqlen,
          error.message);
    check(causal_conv1d_backward(&b, NULL, &error) == CAUSAL_CONV1D_OK,
          "backward of (%lld,%lld,%lld): %s", (long long)batch, (long long)dim, (long long)seqlen,
          error.message);
    if (dim > 0) {
        const struct memory zeros = {0};
        check(!memcmp(memory.dweight, zeros.dweight, sizeof zeros.dweight) &&
                  !memcmp(memory.dbias, zeros.dbias, sizeof zeros.dbias),
              "sums of nothing");
        memcpy(memory.dweight, before.dweight, sizeof zeros.dweight);
        memcpy(memory.dbias, before.dbias, sizeof zeros.dbias);
    }
    check(!memcmp(&memory, &before, sizeof memory), "an empty call wrote something");
    fill();
}

static void check_features(void)
{
    const uint32_t all = cc1d_cpu_features(NULL);
    check(cc1d_cpu_features("") == all && cc1d_cpu_features(",, ,") == all, "an empty list");
    check(cc1d_cpu_features("avx512,avx,avx512fx,AVX2,f") == all, "names that there are not");
    check(cc1d_cpu_features("avx512f,avx2") == (all & ~(uint32_t)(CC1D_avx512f | CC1D_avx2)),
          "two names");
    check(cc1d_cpu_features(" fma  avx512vl,") == (all & ~(uint32_t)(CC1D_fma | CC1D_avx512vl)),
          "names between spaces");
#define X(name) check(cc1d_cpu_features(#name) == (all & ~(uint32_t)CC1D_##name), "hiding " #name);
    CC1D_FEATURES(X)
#undef X
#define X(name) #name ","
    check(cc1d_cpu_features(CC1D_FEATURES(X)) == 0, "hiding all");
#undef X
    for (int i = 0; cc1d_isas[i]; i++)
        check(cc1d_isas[i + 1] ||
                  (!strcmp(cc1d_isas[i]->name, "scalar") && !cc1d_isas[i]->features),
              "the last ISA is scalar and needs nothing");
}

/* A missing struct of arguments is an error like any other, with and without room for its text. */
static void check_no_args(void)
{
    for (int i = 0; i < 8; i++) {
        causal_conv1d_error error = {{0}};
        causal_conv1d_error *e = i & 1 ? &error : NULL;
        causal_conv1d_status status = i / 2 == 0   ? causal_conv1d_forward(NULL, NULL, e)
                                      : i / 2 == 1 ? causal_conv1d_backward(NULL, NULL, e)
                                      : i / 2 == 2 ? causal_conv1d_update(NULL, NULL, e)
                                                   : causal_conv1d_varlen_states(NULL, NULL, e);
        check(status == CAUSAL_CONV1D_BAD_MEMORY, "status %d without args", status);
        check(!e || !strcmp(error.message, "Expected args, got NULL"), "got %s", error.message);
    }
}

static void check_small_functions(void)
{
    char version[32];
    for (int i = CAUSAL_CONV1D_OK; i <= CAUSAL_CONV1D_OUT_OF_MEMORY; i++)
        for (int j = i; j <= CAUSAL_CONV1D_OUT_OF_MEMORY + 1; j++) {
            const char *a = causal_conv1d_status_message((causal_conv1d_status)i);
            const char *b = causal_conv1d_status_message((causal_conv1d_status)j);
            check(*a && (i == j || strcmp(a, b)), "message of status %d", i);
        }
    check(!strcmp(causal_conv1d_status_message((causal_conv1d_status)99), "unknown status"),
          "message of an unknown status");
    snprintf(version, sizeof version, "%d.%d.%d", CAUSAL_CONV1D_VERSION_MAJOR,
             CAUSAL_CONV1D_VERSION_MINOR, CAUSAL_CONV1D_VERSION_PATCH);
    check(!strcmp(causal_conv1d_version(), version), "version %s", causal_conv1d_version());
    check(!strcmp(CAUSAL_CONV1D_VERSION, version), "CAUSAL_CONV1D_VERSION");
}

int main(void)
{
    const char *const hidden = getenv("CAUSAL_CONV1D_HIDE");
    uint32_t have = cc1d_cpu_features(hidden);
    int best = 0;
    while (cc1d_isas[best]->features & ~have) best++;
    check(!strcmp(causal_conv1d_isa(), cc1d_isas[best]->name), "isa %s", causal_conv1d_isa());
#ifdef _WIN32
    _putenv("CAUSAL_CONV1D_HIDE=avx2 fma");
#else
    setenv("CAUSAL_CONV1D_HIDE", "avx2 fma", 1);
#endif
    check(!strcmp(causal_conv1d_isa(), cc1d_isas[best]->name), "CAUSAL_CONV1D_HIDE is read once");

    fill();
    check_shapes();
    check_sizes();
    check_dtypes();
    check_devices();
    check_memory();
    check_sequences();
    check_updates();
    check_good();
    check_slices();
    check_padding();
    check_extremes();
    for (int i = 0; i < 8; i++) {
        bool last = i & 1, null = i & 2, twice = i & 4;
        check_empty(0, DIM, twice ? 0 : SEQLEN, last, null);
        check_empty(BATCH, twice ? 0 : DIM, 0, last, null);
        check_empty(twice ? 0 : BATCH, 0, SEQLEN, last, null);
        check_empty(BATCH, 0, 1, last, null);
    }
    check_features();
    check_no_args();
    check_small_functions();
    return report();
}
