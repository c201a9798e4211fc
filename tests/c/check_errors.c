/* Checks what the public interface refuses, with which status and message, and that a refused call
 * writes nothing. */
#include "good.h"

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

#define ODD(t, n) (a.t.data = (char *)a.t.data + n)
    REFUSED_BOTH(ODD(x, 1), BAD_MEMORY,
                 "Expected data of x at a multiple of its element size, 4 bytes, got it 1 past");
    REFUSED_BOTH(ODD(weight, 2), BAD_MEMORY, "data of weight at a multiple of its element size");
    REFUSED(forward, ODD(out, 3), BAD_MEMORY, "data of out at a multiple");
    REFUSED(backward, ODD(dweight, 1), BAD_MEMORY, "data of dweight at a multiple");
    REFUSED(update, ODD(conv_state, 2), BAD_MEMORY, "data of conv_state at a multiple");
    REFUSED(update, ODD(conv_state_indices, 1), BAD_MEMORY, "data of conv_state_indices at a");
#undef ODD

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
    REFUSED(update, a.conv_state_indices.data = memory.ids, BAD_VALUE,
            "Expected conv_state_indices without one state twice, got a second 0 at 1");
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

/* Arguments of a version that has other fields are not read. */
static void check_struct_sizes(void)
{
    REFUSED_BOTH(a.struct_size = sizeof a + 8, BAD_VALUE,
                 "Expected args with a struct_size of 0 or");
    REFUSED(update, a.struct_size = 1, BAD_VALUE, "as version " CAUSAL_CONV1D_VERSION " has them");
    REFUSED(varlen_states, a.struct_size = UINT32_MAX, BAD_VALUE, "got 4294967295");
    causal_conv1d_forward_args f = good_forward();
    f.struct_size = sizeof f;
    check(causal_conv1d_forward(&f, NULL, NULL) == CAUSAL_CONV1D_OK, "the struct_size of today");
    fill();
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

int main(void)
{
    fill();
    check_shapes();
    check_sizes();
    check_dtypes();
    check_devices();
    check_memory();
    check_sequences();
    check_updates();
    check_no_args();
    check_struct_sizes();
    return report();
}
