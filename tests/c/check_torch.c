/* Checks the operations with a PyTorch made here, whose functions fail when they are told to. */
#ifndef _WIN32
#define _DEFAULT_SOURCE /* mkdtemp, mkfifo, setenv */
#define _DARWIN_C_SOURCE
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "good.h"

#include "../../src/core/libtorch.h"
#include "../../src/torch/ops.h"

#define torch cc1d_torch

/* A handle is a pointer to a view of ours; a PyTorch number of a dtype or device is our own. */
static const causal_conv1d_tensor *view(AtenTensorHandle handle)
{
    return (const causal_conv1d_tensor *)(void *)handle;
}

static AOTITorchError get_strides(AtenTensorHandle handle, int64_t **strides)
{
    *strides = (int64_t *)view(handle)->stride;
    return 0;
}

static AOTITorchError get_sizes(AtenTensorHandle handle, int64_t **sizes)
{
    *sizes = (int64_t *)view(handle)->size;
    return 0;
}

static AOTITorchError get_dim(AtenTensorHandle handle, int64_t *dim)
{
    *dim = view(handle)->ndim;
    return 0;
}

static AOTITorchError get_dtype(AtenTensorHandle handle, int32_t *dtype)
{
    *dtype = (int32_t)view(handle)->dtype;
    return 0;
}

static AOTITorchError get_device(AtenTensorHandle handle, int32_t *device)
{
    *device = (int32_t)view(handle)->device;
    return 0;
}

static AOTITorchError get_index(AtenTensorHandle handle, int32_t *index)
{
    *index = view(handle)->device_index;
    return 0;
}

static AOTITorchError get_data(AtenTensorHandle handle, void **data)
{
    *data = view(handle)->data;
    return 0;
}

/* Tensors that operations allocate, which live until the next call. */
static causal_conv1d_tensor made[8];
static float made_data[8][1 << 16];
static int made_count;

static AOTITorchError empty(int64_t ndim, const int64_t *size, const int64_t *stride, int32_t dtype,
                            int32_t device, int32_t index, AtenTensorHandle *handle)
{
    causal_conv1d_tensor *t = &made[made_count];
    (void)index;
    *t = (causal_conv1d_tensor){.data = made_data[made_count++],
                                .dtype = (causal_conv1d_dtype)dtype,
                                .device = (causal_conv1d_device)device,
                                .ndim = (int32_t)ndim};
    for (int i = 0; i < ndim; i++) t->size[i] = size[i], t->stride[i] = stride[i];
    *handle = (AtenTensorHandle)(void *)t;
    return 0;
}

static AOTITorchError release(AtenTensorHandle handle)
{
    (void)handle;
    return 0;
}

static char raised[2048];

static void raise_error(bool ok, const char *function, const char *file, uint32_t line,
                        const char *message)
{
    (void)function, (void)file, (void)line;
    if (!ok) snprintf(raised, sizeof raised, "%s", message);
}

static int loops, failing_loop; /* parallel loops so far, and which of them fails */

static AOTITorchError parallel_for(int64_t begin, int64_t end, int64_t grain,
                                   causal_conv1d_body *body, void *context)
{
    (void)grain;
    if (++loops == failing_loop) return 1;
    body(begin, end, context);
    return 0;
}

static const char *what(void)
{
    return "no thread could be made";
}

static void make_torch(void)
{
    torch.aoti_torch_get_strides = get_strides;
    torch.aoti_torch_get_sizes = get_sizes;
    torch.aoti_torch_get_dim = get_dim;
    torch.aoti_torch_get_dtype = get_dtype;
    torch.aoti_torch_get_device_type = get_device;
    torch.aoti_torch_get_device_index = get_index;
    torch.aoti_torch_get_data_ptr = get_data;
    torch.aoti_torch_empty_strided = empty;
    torch.aoti_torch_delete_tensor_object = release;
    torch.aoti_torch_check = raise_error;
    torch.torch_parallel_for = parallel_for;
    torch.torch_exception_get_what_without_backtrace = what;
    for (int i = 0; i < CAUSAL_CONV1D_OTHER; i++) torch.dtypes[i] = i;
    for (int i = 0; i < CAUSAL_CONV1D_OTHER_DEVICE; i++) torch.devices[i] = i;
}

static StableIValue handle_of(const causal_conv1d_tensor *t)
{
    return (StableIValue)(uintptr_t)t;
}

/* Runs an operation while its n-th parallel loop fails, 0 for none; how many loops it had. */
static int run(const char *name, const StableIValue *arguments, int count, int n)
{
    StableIValue stack[16];
    const cc1d_operation *operation = cc1d_operations;
    while (strcmp(operation->name, name) != 0) operation++;
    for (int i = 0; i < count; i++) stack[i] = arguments[i];
    made_count = loops = 0, failing_loop = n, raised[0] = 0;
    operation->kernel(stack, (uint64_t)count, 1);
    return loops;
}

/* Whichever loop of a call fails, the call raises. */
static void check_loops(const char *name, const StableIValue *arguments, int count)
{
    const int all = run(name, arguments, count, 0);
    check(all > 0 && !raised[0], "%s: %d loops, \"%s\"", name, all, raised);
    for (int n = 1; n <= all; n++) {
        run(name, arguments, count, n);
        check(strstr(raised, "[failed] PyTorch's threads did not finish the call: no thread could"),
              "%s: loop %d of %d failed, raised \"%s\"", name, n, all, raised);
    }
}

#ifndef _WIN32
static char compiled[1 << 20]; /* the text of the last shader */

static AOTITorchError compile(const char *text, AOTIMetalShaderLibraryHandle *library)
{
    snprintf(compiled, sizeof compiled, "%s", text);
    *library = NULL;
    return 1;
}

static AOTITorchError never_run(AOTIMetalKernelFunctionHandle function,
                                void (*encode)(AOTIMetalKernelFunctionHandle, void *), void *user)
{
    (void)function, (void)encode, (void)user;
    return 1;
}

static AOTITorchError storage_offset(AtenTensorHandle handle, int64_t *offset)
{
    (void)handle;
    return *offset = 0;
}

/* A call on an Apple GPU while CAUSAL_CONV1D_METAL_PATH names this file; what it raises. */
static const char *run_with_shader(const char *path)
{
    causal_conv1d_tensor x = of_x(memory.x), weight = tensor(memory.weight, 2, DIM, WIDTH, 0);
    x.device = weight.device = CAUSAL_CONV1D_MPS;
    setenv("CAUSAL_CONV1D_METAL_PATH", path, 1);
    run("forward_plain", (StableIValue[]){handle_of(&x), handle_of(&weight), 0, false}, 4, 0);
    unsetenv("CAUSAL_CONV1D_METAL_PATH");
    return raised;
}

/* Whatever the variable names, a call ends, and says why. */
static void check_shader_file(void)
{
    char folder[] = "/tmp/causal_conv1d_XXXXXX", path[64], expected[256];
    torch.aoti_torch_mps_create_shader_library = compile;
    torch.aoti_torch_mps_run_command_block = never_run;
    torch.aoti_torch_get_storage_offset = storage_offset;
    if (!mkdtemp(folder)) abort();
    alarm(60); /* what waits for ever ends the test */

    snprintf(expected, sizeof expected,
             "CAUSAL_CONV1D_METAL_PATH: could not read %s: it is no regular file", folder);
    check(strstr(run_with_shader(folder), expected), "a folder: \"%s\"", raised);
    snprintf(path, sizeof path, "%s/fifo", folder);
    if (mkfifo(path, 0600)) abort();
    check(strstr(run_with_shader(path), "fifo: it is no regular file"), "a FIFO: \"%s\"", raised);
    remove(path);
    check(strstr(run_with_shader(path), "fifo: No such file"), "no file: \"%s\"", raised);
    check(!compiled[0], "a shader that cannot be read was compiled");

    snprintf(path, sizeof path, "%s/\u00fc \u6ce2.metal", folder);
    FILE *file = fopen(path, "wb");
    if (!file || fputs("kernel of mine", file) < 0 || fclose(file)) abort();
    check(strstr(run_with_shader(path), "does not compile"), "a file: \"%s\"", raised);
    check(strstr(compiled, "kernel of mine"), "the text of a file whose name is not ASCII");
    remove(path), rmdir(folder);
    alarm(0);
}
#endif

int main(void)
{
    /* Enough channels for several tiles in every operation, and times for several of states. */
    enum { D = 2048, T = 32, W = 4, N = 16 };
    static float x[D * T], dout[D * T], weight[D * W], state[D * W * N];
    static int32_t packed[N + 1];
    for (int i = 0; i <= N; i++) packed[i] = i * T / N;
    const causal_conv1d_tensor rows = tensor(x, 3, 1, D, T), drows = tensor(dout, 3, 1, D, T);
    const causal_conv1d_tensor step = tensor(x, 3, N, D, 1), flat = tensor(x, 2, T, D, 0);
    const causal_conv1d_tensor taps = tensor(weight, 2, D, W, 0);
    const causal_conv1d_tensor states = tensor(state, 3, N, D, W);
    const causal_conv1d_tensor starts = indices(packed, 1, N + 1, 0);
    make_torch();
    check_loops("forward_plain", (StableIValue[]){handle_of(&rows), handle_of(&taps), 0, true}, 4);
    check_loops("backward_plain",
                (StableIValue[]){handle_of(&drows), handle_of(&rows), handle_of(&taps), 0, true},
                5);
    check_loops("update_plain",
                (StableIValue[]){handle_of(&step), handle_of(&states), handle_of(&taps), 0, true},
                5);
    check_loops("varlen_states", (StableIValue[]){handle_of(&flat), handle_of(&starts), W}, 3);
#ifndef _WIN32
    check_shader_file();
#endif
    return report();
}
