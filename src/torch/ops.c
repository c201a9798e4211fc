/* The PyTorch operations: schemas, registration, unpacking, and the one place that raises.
 *
 * PyTorch calls a boxed kernel with the arguments on a stack of 64-bit values.  Tensors are
 * handles that the kernel owns and deletes; it leaves handles of the results on the stack. */
#define _GNU_SOURCE /* RTLD_NOLOAD, madvise */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../include/causal_conv1d.h"
#include "../check.h"
#include "../cpu/dtype.h"
#include "../library.h"
#include "torch_c.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

cc1d_torch_functions cc1d_torch;
#define torch cc1d_torch
static bool huge_pages;

/* The arguments and temporaries of a call, and what went wrong. */
typedef struct call {
    AtenTensorHandle owned[16];
    int owned_count;
    causal_conv1d_status status;
    causal_conv1d_error error;
} call;

static AtenTensorHandle own(call *c, AtenTensorHandle handle)
{
    return c->owned[c->owned_count++] = handle;
}

static AtenTensorHandle take_tensor(call *c, StableIValue value)
{
    return own(c, (AtenTensorHandle)(uintptr_t)value);
}

static AtenTensorHandle take_optional(call *c, StableIValue value)
{
    StableIValue *cell = (StableIValue *)(uintptr_t)value;
    if (!cell) return NULL;
    AtenTensorHandle handle = take_tensor(c, *cell);
    if (torch.torch_delete_stable_ivalue)
        torch.torch_delete_stable_ivalue(cell);
    else
        torch.operator_delete(cell);
    return handle;
}

/* Releases what the call owns but the results, and raises if it failed. */
static void finish(call *c, StableIValue *stack, const AtenTensorHandle *results, int count)
{
    bool failed = c->status != CAUSAL_CONV1D_OK;
    for (int i = 0; i < c->owned_count; i++) {
        bool result = false;
        for (int j = 0; j < count; j++) result = result || c->owned[i] == results[j];
        if (failed || !result) torch.aoti_torch_delete_tensor_object(c->owned[i]);
    }
    for (int j = 0; j < count; j++) stack[j] = failed ? 0 : (StableIValue)(uintptr_t)results[j];
    if (!failed) return;
    static const char *const kinds[] = {[CAUSAL_CONV1D_BAD_SHAPE] = "shape",
                                        [CAUSAL_CONV1D_BAD_DTYPE] = "dtype",
                                        [CAUSAL_CONV1D_BAD_DEVICE] = "device",
                                        [CAUSAL_CONV1D_BAD_MEMORY] = "memory",
                                        [CAUSAL_CONV1D_BAD_VALUE] = "value",
                                        [CAUSAL_CONV1D_BAD_COMBINATION] = "combination",
                                        [CAUSAL_CONV1D_OUT_OF_MEMORY] = "out of memory",
                                        [CAUSAL_CONV1D_DEVICE_FAILED] = "failed"};
    char text[sizeof c->error.message + 64];
    snprintf(text, sizeof text, "causal_conv1d_mps [%s] %s", kinds[c->status], c->error.message);
    torch.aoti_torch_check(false, __func__, "causal_conv1d_mps", 0, text);
}

/* Our view of a tensor; NULL gives an absent one. */
static causal_conv1d_tensor view(AtenTensorHandle handle)
{
    causal_conv1d_tensor t = {0};
    if (!handle) return t;
    int32_t dtype = -1, device = -1;
    int64_t ndim = 0, *sizes, *strides;
    torch.aoti_torch_get_dim(handle, &ndim);
    torch.aoti_torch_get_sizes(handle, &sizes);
    torch.aoti_torch_get_strides(handle, &strides);
    torch.aoti_torch_get_dtype(handle, &dtype);
    torch.aoti_torch_get_device_type(handle, &device);
    torch.aoti_torch_get_data_ptr(handle, &t.data);
    while (t.device < CAUSAL_CONV1D_OTHER_DEVICE && torch.devices[t.device] != device) t.device++;
    if (t.device != CAUSAL_CONV1D_CPU) {
        torch.aoti_torch_get_device_index(handle, &t.device_index);
        t.handle = handle;
    }
    t.dtype = CAUSAL_CONV1D_FLOAT32;
    while (t.dtype < CAUSAL_CONV1D_OTHER && torch.dtypes[t.dtype] != dtype) t.dtype++;
    t.ndim = (int32_t)ndim;
    for (int i = 0; i < ndim && i < 3; i++) t.size[i] = sizes[i], t.stride[i] = strides[i];
    return t;
}

/* The order of dimensions of a dense tensor like t, the fastest first, as torch.empty_like has
 * it: by stride; dimensions of stride 0 stay where they are. */
static void dense_order(const causal_conv1d_tensor *t, int order[3])
{
    for (int i = 0; i < t->ndim; i++) order[i] = t->ndim - 1 - i;
    for (int i = 1; i < t->ndim; i++)
        for (int j = i - 1, moving = i; j >= 0; j--) {
            int a = order[j], b = order[moving];
            if (t->stride[a] == 0 || t->stride[b] == 0) continue;
            if (t->stride[a] < t->stride[b]) break;
            if (t->stride[a] == t->stride[b] && t->size[a] <= t->size[b]) continue;
            order[j] = b, order[moving] = a, moving = j;
        }
}

/* Whether t fills its memory without gaps, or is empty: torch.empty_like keeps its strides. */
static bool is_dense(const causal_conv1d_tensor *t)
{
    int64_t expected = 1;
    bool used[3] = {false, false, false};
    for (int i = 0; i < t->ndim; i++)
        if (t->size[i] == 0) return true;
    for (int n = 0; n < t->ndim; n++) {
        int next = -1;
        for (int i = 0; i < t->ndim; i++)
            if (!used[i] && t->size[i] > 1 && (next < 0 || t->stride[i] < t->stride[next]))
                next = i;
        if (next < 0) return true;
        if (t->stride[next] != expected) return false;
        used[next] = true;
        expected *= t->size[next];
    }
    return true;
}

/* Advise huge pages for memory that a call has just allocated and not yet written.  From
 * 32 MiB on glibc maps fresh pages for every tensor, whose first touch would cost more than the
 * convolution; smaller memory is mostly recycled. */
static void advise_huge_pages(const causal_conv1d_tensor *t)
{
#ifdef __linux__
    const uintptr_t page = (uintptr_t)2 << 20, threshold = (uintptr_t)32 << 20;
    uintptr_t bytes = cc1d_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++) bytes *= (uintptr_t)t->size[i];
    if (!huge_pages || bytes < threshold) return;
    uintptr_t begin = ((uintptr_t)t->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)t->data + bytes) / page * page;
    madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* advice: may fail */
#else
    (void)t;
#endif
}

/* A new tensor of t's shape, strides, dtype and device. */
static causal_conv1d_tensor new_with_strides(call *c, causal_conv1d_tensor t,
                                             AtenTensorHandle *handle)
{
    *handle = NULL;
    if (torch.aoti_torch_empty_strided(t.ndim, t.size, t.stride, torch.dtypes[t.dtype],
                                       torch.devices[t.device], t.device_index, handle)) {
        c->status = cc1d_fail(&c->error, CAUSAL_CONV1D_OUT_OF_MEMORY,
                              "PyTorch could not allocate a tensor");
        return t;
    }
    own(c, *handle);
    torch.aoti_torch_get_data_ptr(*handle, &t.data);
    if (t.device == CAUSAL_CONV1D_CPU)
        advise_huge_pages(&t);
    else
        t.handle = *handle;
    return t;
}

causal_conv1d_status cc1d_torch_floats(const causal_conv1d_tensor *x, int64_t n,
                                       causal_conv1d_tensor *memory, causal_conv1d_error *error)
{
    *memory = (causal_conv1d_tensor){.dtype = CAUSAL_CONV1D_FLOAT32,
                                     .device = x->device,
                                     .device_index = x->device_index,
                                     .ndim = 1,
                                     .size = {n},
                                     .stride = {1}};
    if (!torch.aoti_torch_empty_strided)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected a PyTorch in this process for x on a GPU, got none");
    AtenTensorHandle handle = NULL;
    if (torch.aoti_torch_empty_strided(1, memory->size, memory->stride, torch.dtypes[memory->dtype],
                                       torch.devices[x->device], x->device_index, &handle))
        return cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY,
                         "PyTorch could not allocate a workspace of %lld bytes", (long long)n * 4);
    torch.aoti_torch_get_data_ptr(handle, &memory->data);
    memory->handle = handle;
    return CAUSAL_CONV1D_OK;
}

/* The same, with the strides of torch.empty_like or contiguous. */
static causal_conv1d_tensor new_like(call *c, const causal_conv1d_tensor *t, bool keep_strides,
                                     AtenTensorHandle *handle)
{
    causal_conv1d_tensor out = *t;
    int order[3] = {t->ndim - 1, t->ndim - 2, t->ndim - 3};
    if (keep_strides) dense_order(t, order);
    if (!keep_strides || !is_dense(t)) {
        int64_t stride = 1;
        for (int i = 0; i < t->ndim; i++) {
            out.stride[order[i]] = stride;
            stride *= t->size[order[i]] > 1 ? t->size[order[i]] : 1;
        }
    }
    return new_with_strides(c, out, handle);
}

/* A new tensor like the one given, with the values of `from`. */
static causal_conv1d_tensor copied(call *c, const causal_conv1d_tensor *like, bool keep_strides,
                                   AtenTensorHandle from)
{
    AtenTensorHandle copy;
    causal_conv1d_tensor t = new_like(c, like, keep_strides, &copy);
    if (!c->status && torch.aoti_torch_copy_(copy, from, 0))
        c->status =
            cc1d_fail(&c->error, CAUSAL_CONV1D_DEVICE_FAILED, "PyTorch could not copy a tensor");
    return t;
}

/* The taps as kernels of a GPU read them: contiguous and on 16 bytes, as they nearly always are. */
static void make_taps_contiguous(call *c, causal_conv1d_tensor *weight)
{
    if (c->status || weight->device == CAUSAL_CONV1D_CPU) return;
    if (weight->stride[1] == 1 && weight->stride[0] == weight->size[1] &&
        (uintptr_t)weight->data % 16 == 0)
        return;
    *weight = copied(c, weight, false, weight->handle);
}

static void lend_threads(void *user, int64_t begin, int64_t end, int64_t grain,
                         causal_conv1d_body *body, void *context)
{
    (void)user;
    torch.torch_parallel_for(begin, end, grain, body, context);
}

static const causal_conv1d_threads torch_threads = {lend_threads, NULL};

/* out and, if wanted, final states of a call whose inputs are in args. */
static void run_forward(call *c, causal_conv1d_forward_args *args, bool final_states,
                        AtenTensorHandle results[2])
{
    c->status = cc1d_check_forward_inputs(args, &c->error);
    make_taps_contiguous(c, &args->weight);
    if (c->status) return;
    args->out = new_like(c, &args->x, true, &results[0]);
    if (!c->status && final_states) {
        /* Like x in its layout: channels-last states beside a channels-last x. */
        causal_conv1d_tensor states = args->x;
        bool dim_first = states.stride[1] == 1;
        states.size[0] = cc1d_sequences(&args->x, &args->cu_seqlens);
        states.size[2] = args->weight.size[1] - 1;
        states.stride[1] = dim_first ? 1 : states.size[2];
        states.stride[2] = dim_first ? states.size[1] : 1;
        states.stride[0] = states.size[1] * states.size[2];
        args->final_states = new_with_strides(c, states, &results[1]);
    }
    if (!c->status) c->status = cc1d_forward(args, true, &torch_threads, &c->error);
}

/* The plain call: no sequences, no states. */
static void forward_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle out[2] = {NULL, NULL};
    causal_conv1d_forward_args args = {
        .x = view(take_tensor(&c, stack[0])),
        .weight = view(take_tensor(&c, stack[1])),
        .bias = view(take_optional(&c, stack[2])),
        .silu = stack[3] & 1,
    };
    (void)inputs, (void)outputs;
    run_forward(&c, &args, false, out);
    finish(&c, stack, out, 1);
}

/* An empty tensor: a result that was not asked for. */
static void new_empty(call *c, causal_conv1d_tensor like, AtenTensorHandle *handle)
{
    like.ndim = 1, like.size[0] = 0, like.stride[0] = 1;
    if (!c->status) new_with_strides(c, like, handle);
}

static void forward(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle results[2] = {NULL, NULL};
    causal_conv1d_forward_args args = {
        .x = view(take_tensor(&c, stack[0])),
        .weight = view(take_tensor(&c, stack[1])),
        .bias = view(take_optional(&c, stack[2])),
        .seq_idx = view(take_optional(&c, stack[3])),
        .cu_seqlens = view(take_optional(&c, stack[4])),
        .initial_states = view(take_optional(&c, stack[5])),
        .silu = stack[6] & 1,
    };
    bool final_states = stack[7] & 1;
    (void)inputs, (void)outputs;
    run_forward(&c, &args, final_states, results);
    if (!final_states) new_empty(&c, args.x, &results[1]);
    finish(&c, stack, results, 2);
}

static bool share_unit_stride(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b)
{
    return (a->stride[1] == 1 && b->stride[1] == 1) || (a->stride[2] == 1 && b->stride[2] == 1);
}

/* dx, dweight, dbias and, if there are initial states, dinitial_states; empty tensors for what
 * there is not. */
static void run_backward(call *c, causal_conv1d_backward_args *args, AtenTensorHandle dout,
                         AtenTensorHandle *results)
{
    c->status = cc1d_check_backward_inputs(args, &c->error);
    if (!c->status) args->dx = new_like(c, &args->x, true, &results[0]);
    if (!c->status) args->dweight = new_like(c, &args->weight, false, &results[1]);
    if (!c->status && cc1d_present(&args->bias))
        args->dbias = new_like(c, &args->bias, false, &results[2]);
    else
        new_empty(c, args->weight, &results[2]);
    if (!c->status && cc1d_present(&args->initial_states))
        args->dinitial_states = new_like(c, &args->initial_states, true, &results[3]);
    /* Where dout lies across dx (a gradient that was transposed or expanded), a copy is faster. */
    if (!c->status && !share_unit_stride(&args->dout, &args->dx))
        args->dout = copied(c, &args->dx, true, dout);
    make_taps_contiguous(c, &args->weight);
    if (!c->status) c->status = cc1d_backward(args, &torch_threads, &c->error);
}

static void backward(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle dout = take_tensor(&c, stack[0]), results[4] = {NULL, NULL, NULL, NULL};
    causal_conv1d_backward_args args = {
        .dout = view(dout),
        .dfinal_states = view(take_optional(&c, stack[1])),
        .x = view(take_tensor(&c, stack[2])),
        .weight = view(take_tensor(&c, stack[3])),
        .bias = view(take_optional(&c, stack[4])),
        .seq_idx = view(take_optional(&c, stack[5])),
        .cu_seqlens = view(take_optional(&c, stack[6])),
        .initial_states = view(take_optional(&c, stack[7])),
        .silu = stack[8] & 1,
    };
    (void)inputs, (void)outputs;
    run_backward(&c, &args, dout, results);
    if (!results[3]) new_empty(&c, args.x, &results[3]);
    finish(&c, stack, results, 4);
}

/* The same for the plain call. */
static void backward_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle dout = take_tensor(&c, stack[0]), results[4] = {NULL, NULL, NULL, NULL};
    causal_conv1d_backward_args args = {
        .dout = view(dout),
        .x = view(take_tensor(&c, stack[1])),
        .weight = view(take_tensor(&c, stack[2])),
        .bias = view(take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
    };
    (void)inputs, (void)outputs;
    run_backward(&c, &args, dout, results);
    finish(&c, stack, results, 3);
}

/* A (B,D) tensor as (B,D,1). */
static void add_time(causal_conv1d_tensor *t)
{
    t->ndim = 3, t->size[2] = 1, t->stride[2] = 1;
}

static void run_update(call *c, causal_conv1d_update_args *args, AtenTensorHandle *out)
{
    causal_conv1d_tensor x = args->x;
    if (x.ndim == 2) add_time(&args->x);
    c->status = cc1d_check_update_inputs(args, &c->error);
    make_taps_contiguous(c, &args->weight);
    if (!c->status) args->out = new_like(c, &x, true, out);
    if (!c->status && x.ndim == 2) add_time(&args->out);
    if (!c->status) c->status = cc1d_update(args, &torch_threads, &c->error);
}

static void update(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle out = NULL;
    causal_conv1d_update_args args = {
        .x = view(take_tensor(&c, stack[0])),
        .conv_state = view(take_tensor(&c, stack[1])),
        .weight = view(take_tensor(&c, stack[2])),
        .bias = view(take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
        .cache_seqlens = view(take_optional(&c, stack[5])),
        .conv_state_indices = view(take_optional(&c, stack[6])),
    };
    (void)inputs, (void)outputs;
    run_update(&c, &args, &out);
    finish(&c, stack, &out, 1);
}

/* The plain call: no ring, no pool. */
static void update_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle out = NULL;
    causal_conv1d_update_args args = {
        .x = view(take_tensor(&c, stack[0])),
        .conv_state = view(take_tensor(&c, stack[1])),
        .weight = view(take_tensor(&c, stack[2])),
        .bias = view(take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
    };
    (void)inputs, (void)outputs;
    run_update(&c, &args, &out);
    finish(&c, stack, &out, 1);
}

static void varlen_states(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    call c = {0};
    AtenTensorHandle states = NULL;
    causal_conv1d_tensor x = view(take_tensor(&c, stack[0]));
    causal_conv1d_varlen_states_args args = {.cu_seqlens = view(take_tensor(&c, stack[1]))};
    int64_t state_len = (int64_t)stack[2];
    (void)inputs, (void)outputs;
    if (x.ndim != 2)
        c.status = cc1d_fail(&c.error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected 2D tensor x (total, dim), got %dD", x.ndim);
    else if (state_len < 0)
        c.status = cc1d_fail(&c.error, CAUSAL_CONV1D_BAD_SHAPE, "Expected state_len >= 0, got %lld",
                             (long long)state_len);
    if (!c.status) {
        args.x = x;
        args.x.ndim = 3, args.x.size[0] = 1, args.x.stride[0] = 0;
        args.x.size[1] = x.size[1], args.x.stride[1] = x.stride[1];
        args.x.size[2] = x.size[0], args.x.stride[2] = x.stride[0];
        c.status = cc1d_check_packed_inputs(&args.x, &args.cu_seqlens, &c.error);
    }
    if (!c.status) {
        causal_conv1d_tensor like = args.x; /* (N,D,L), channels-last as x usually is */
        like.size[0] = args.cu_seqlens.size[0] - 1, like.size[2] = state_len;
        like.stride[0] = state_len * like.size[1], like.stride[1] = 1;
        like.stride[2] = like.size[1];
        args.states = new_with_strides(&c, like, &states);
    }
    if (!c.status) c.status = causal_conv1d_varlen_states(&args, &torch_threads, &c.error);
    finish(&c, stack, &states, 1);
}

/* The .._no_grad are the same without the gradient that Python registers, which would cost every
 * call a way through Python; the .._plain are those with the fewest arguments. */
#define COUNT(array) (sizeof(array) / sizeof *(array))

#define FORWARD_SCHEMA                                                             \
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? seq_idx, Tensor? cu_seqlens," \
    " Tensor? initial_states, bool silu, bool return_final_states)"                \
    " -> (Tensor out, Tensor final_states)"

#define BACKWARD_SCHEMA                                                           \
    "(Tensor dout, Tensor? dfinal_states, Tensor x, Tensor weight, Tensor? bias," \
    " Tensor? seq_idx, Tensor? cu_seqlens, Tensor? initial_states, bool silu)"    \
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial_states)"

static const struct {
    const char *name, *schema;
    void (*kernel)(StableIValue *, uint64_t, uint64_t);
} operations[] = {
    {"forward", "forward" FORWARD_SCHEMA, forward},
    {"forward_no_grad", "forward_no_grad" FORWARD_SCHEMA, forward},
    {"forward_plain", "forward_plain(Tensor x, Tensor weight, Tensor? bias, bool silu) -> Tensor",
     forward_plain},
    {"backward", "backward" BACKWARD_SCHEMA, backward},
    {"backward_no_grad", "backward_no_grad" BACKWARD_SCHEMA, backward},
    {"backward_plain",
     "backward_plain(Tensor dout, Tensor x, Tensor weight, Tensor? bias, bool silu)"
     " -> (Tensor dx, Tensor dweight, Tensor dbias)",
     backward_plain},
    {"update",
     "update(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias, bool silu,"
     " Tensor? cache_seqlens, Tensor? conv_state_indices) -> Tensor",
     update},
    {"update_plain",
     "update_plain(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias, bool silu)"
     " -> Tensor",
     update_plain},
    {"varlen_states", "varlen_states(Tensor x, Tensor cu_seqlens, int state_len) -> Tensor",
     varlen_states},
};

#ifdef _WIN32
#define LIBTORCH "torch_cpu.dll"
#elif defined(__APPLE__)
#define LIBTORCH "@rpath/libtorch_cpu.dylib"
#else
#define LIBTORCH "libtorch_cpu.so"
#endif

/* Registers the operations under torch.ops.causal_conv1d_mps with the PyTorch of this process;
 * path is where its libtorch_cpu lies, or NULL to look under its usual name.  Returns NULL, or
 * what was wrong.  A second call does nothing. */
CAUSAL_CONV1D_API const char *causal_conv1d_torch_register(const char *path)
{
    static char error[256];
    static bool done;
    uint64_t (*abi_version)(void) = NULL;
    if (done) return NULL;
    void *libtorch = path ? cc1d_loaded_library(path) : NULL;
    if (!libtorch) libtorch = cc1d_loaded_library(LIBTORCH);
    if (!libtorch || !cc1d_resolve(libtorch, "aoti_torch_abi_version", &abi_version))
        return "causal_conv1d_mps needs PyTorch >= 2.10, and found none loaded";
    uint64_t version = abi_version();
    const char *missing = NULL;
#define X(result, name, parameters) \
    if (!cc1d_resolve(libtorch, #name, &torch.name) && !missing) missing = #name;
    TORCH_FUNCTIONS(X)
#undef X
#ifdef CAUSAL_CONV1D_EMULATED_MPS /* the tests' own */
#define X(result, name, parameters) \
    extern result name parameters;  \
    torch.name = name;
#else
#define X(result, name, parameters) cc1d_resolve(libtorch, #name, &torch.name);
#endif
    TORCH_MPS_FUNCTIONS(X)
#undef X
    snprintf(torch.path, sizeof torch.path, "%s", path ? path : "");
    cc1d_resolve(libtorch, "torch_exception_get_what_without_backtrace",
                 &torch.torch_exception_get_what_without_backtrace);
    if (!cc1d_resolve(libtorch, "torch_delete_stable_ivalue", &torch.torch_delete_stable_ivalue) &&
        !cc1d_resolve(libtorch, "_ZdlPv", &torch.operator_delete) && !missing)
        missing = "operator delete";
    if (version < TORCH_MINIMUM || missing) {
        snprintf(error, sizeof error,
                 "causal_conv1d_mps needs PyTorch >= 2.10, but %u.%u is loaded%s%s",
                 (unsigned)(version >> 56), (unsigned)(version >> 48 & 255),
                 missing ? ", which lacks " : "", missing ? missing : "");
        return error;
    }
    torch.dtypes[CAUSAL_CONV1D_NONE] = -1;
    torch.dtypes[CAUSAL_CONV1D_FLOAT32] = torch.aoti_torch_dtype_float32();
    torch.dtypes[CAUSAL_CONV1D_FLOAT16] = torch.aoti_torch_dtype_float16();
    torch.dtypes[CAUSAL_CONV1D_BFLOAT16] = torch.aoti_torch_dtype_bfloat16();
    torch.dtypes[CAUSAL_CONV1D_FLOAT64] = torch.aoti_torch_dtype_float64();
    torch.dtypes[CAUSAL_CONV1D_INT32] = torch.aoti_torch_dtype_int32();
    torch.dtypes[CAUSAL_CONV1D_INT64] = torch.aoti_torch_dtype_int64();
    torch.devices[CAUSAL_CONV1D_CPU] = torch.aoti_torch_device_type_cpu();
    torch.devices[CAUSAL_CONV1D_MPS] = torch.aoti_torch_device_type_mps();
    torch.devices[CAUSAL_CONV1D_CUDA] = torch.aoti_torch_device_type_cuda();
#ifdef CAUSAL_CONV1D_EMULATED_MPS /* tensors of the CPU stand for those of an Apple GPU */
    torch.devices[CAUSAL_CONV1D_MPS] = torch.devices[CAUSAL_CONV1D_CPU];
    torch.devices[CAUSAL_CONV1D_CPU] = -1;
#endif
    const char *huge = getenv("CAUSAL_CONV1D_HUGE_PAGES");
    huge_pages = !huge || strcmp(huge, "0") != 0;

    static const char *const keys[] = {"CPU", "MPS", "CUDA"};
    const char *space = "causal_conv1d_mps";
    TorchLibraryHandle library;
    AOTITorchError failed = torch.aoti_torch_library_init_def(space, __FILE__, __LINE__, &library);
    for (size_t i = 0; !failed && i < COUNT(operations); i++)
        failed = torch.aoti_torch_library_def(library, operations[i].schema);
    for (size_t key = 0; !failed && key < COUNT(keys); key++) {
        failed = torch.aoti_torch_library_init_impl(space, keys[key], __FILE__, __LINE__, &library);
        for (size_t i = 0; !failed && i < COUNT(operations); i++)
            failed = torch.torch_library_impl(library, operations[i].name, operations[i].kernel,
                                              TORCH_MINIMUM);
    }
    if (failed) return "PyTorch refused to register the operations of causal_conv1d_mps";
    done = true;
    return NULL;
}
