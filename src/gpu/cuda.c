/* Runs the launches of a call on an NVIDIA GPU: NVRTC compiles the shader behind metal_on_cuda.h,
 * the driver runs it on PyTorch's current stream.  Both are looked up on the first call: nothing of
 * CUDA is needed to build, and a process without an NVIDIA GPU never comes here. */
#define _GNU_SOURCE /* RTLD_NOLOAD */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/error.h"
#include "../core/libtorch.h"
#include "../core/library.h"
#include "../core/lock.h"
#include "cache.h"
#include "launch.h"
#include "source.h"

#define torch cc1d_torch

/* Of cuda.h and nvrtc.h; a status is 0 if all went well. */
typedef int CUdevice;
typedef struct CUctx_st *CUcontext;
typedef struct CUlib_st *CUlibrary;
typedef struct CUkern_st *CUkernel;
typedef struct nvrtc_st *nvrtcProgram;
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

#define DRIVER_FUNCTIONS(X)                                                                  \
    X(cuGetErrorString, (int, const char **))                                                \
    X(cuDeviceGet, (CUdevice *, int))                                                        \
    X(cuDeviceGetAttribute, (int *, int, CUdevice))                                          \
    X(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                     \
    X(cuCtxGetCurrent, (CUcontext *))                                                        \
    X(cuCtxPushCurrent_v2, (CUcontext))                                                      \
    X(cuCtxPopCurrent_v2, (CUcontext *))                                                     \
    X(cuLibraryLoadData,                                                                     \
      (CUlibrary *, const void *, void *, void *, unsigned, void *, void *, unsigned))       \
    X(cuLibraryGetKernel, (CUkernel *, CUlibrary, const char *))                             \
    X(cuLaunchKernel, (CUkernel, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, \
                       unsigned, void *, void **, void **))

#define NVRTC_FUNCTIONS(X)                                                                         \
    X(nvrtcVersion, (int *, int *))                                                                \
    X(nvrtcCreateProgram,                                                                          \
      (nvrtcProgram *, const char *, const char *, int, const char *const *, const char *const *)) \
    X(nvrtcCompileProgram, (nvrtcProgram, int, const char *const *))                               \
    X(nvrtcGetProgramLogSize, (nvrtcProgram, size_t *))                                            \
    X(nvrtcGetProgramLog, (nvrtcProgram, char *))                                                  \
    X(nvrtcGetCUBINSize, (nvrtcProgram, size_t *))                                                 \
    X(nvrtcGetCUBIN, (nvrtcProgram, char *))                                                       \
    X(nvrtcDestroyProgram, (nvrtcProgram *))

static struct {
#define X(name, parameters) int(*name) parameters;
    DRIVER_FUNCTIONS(X)
    NVRTC_FUNCTIONS(X)
#undef X
    AOTITorchError (*aoti_torch_get_current_cuda_stream)(int32_t, void **);
} cuda;

#ifdef _WIN32
static const char *const driver_names[] = {"nvcuda.dll", NULL};
static const char *const nvrtc_names[] = {"nvrtc64_130_0.dll", "nvrtc64_120_0.dll", NULL};
static const char *const torch_names[] = {"torch_cuda.dll", NULL};
#else
static const char *const driver_names[] = {"libcuda.so.1", NULL};
/* The first depends on the NVRTC that PyTorch brings, and knows where it lies. */
static const char *const nvrtc_names[] = {"libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                          NULL};
static const char *const torch_names[] = {"libtorch_cuda.so", NULL};
#endif

/* Opens the first of the libraries that is there, beside libtorch_cpu or where the system looks. */
static void *open_one(const char *const *names)
{
    for (; *names; names++) {
        char path[sizeof torch.path + 64];
        const char *end = strrchr(torch.path, '/'), *back = strrchr(torch.path, '\\');
        if (!end || (back && back > end)) end = back;
        snprintf(path, sizeof path, "%.*s%s", end ? (int)(end + 1 - torch.path) : 0, torch.path,
                 *names);
        void *library = cc1d_load_library(path);
        if (!library) library = cc1d_load_library(*names);
        if (library) return library;
    }
    return NULL;
}

static cc1d_lock lock = CC1D_LOCK_INIT;
static atomic_bool opened;

static causal_conv1d_status open_libraries(causal_conv1d_error *error)
{
    const char *missing = NULL;
    void *library = open_one(driver_names);
#define X(name, parameters) \
    if (!cc1d_resolve(library, #name, &cuda.name) && !missing) missing = #name;
    DRIVER_FUNCTIONS(X)
    if (missing)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "x is on an NVIDIA GPU, but the driver lacks %s: install an NVIDIA driver "
                         "of version 525 or newer",
                         missing);
    library = open_one(nvrtc_names);
    NVRTC_FUNCTIONS(X)
#undef X
    if (missing)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "x is on an NVIDIA GPU, but NVRTC was not found (%s): install PyTorch's "
                         "CUDA packages, or nvidia-cuda-nvrtc for its version of CUDA",
                         missing);
    if (!cc1d_resolve(open_one(torch_names), "aoti_torch_get_current_cuda_stream",
                      &cuda.aoti_torch_get_current_cuda_stream))
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected a PyTorch with CUDA in this process, got none");
    atomic_store(&opened, true);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status check_driver(int status, const char *what, causal_conv1d_error *error)
{
    const char *text = NULL;
    if (status == 0) return CAUSAL_CONV1D_OK;
    cuda.cuGetErrorString(status, &text);
    return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED, "%s failed: %s", what,
                     text ? text : "unknown error");
}

/* What is known of a device after its first call. */
typedef struct device {
    CUcontext context;
    int architecture; /* 10 * major + minor of its compute capability */
} device;

static device devices[64];

static causal_conv1d_status find_device(int index, device *d, causal_conv1d_error *error)
{
    CUdevice handle;
    int major = 0, minor = 0;
    if (index < 0 || index >= 64)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE, "Expected one of 64 GPUs, got %d", index);
    if (!devices[index].context) {
        int status = cuda.cuDeviceGet(&handle, index);
        if (!status) status = cuda.cuDeviceGetAttribute(&major, COMPUTE_CAPABILITY_MAJOR, handle);
        if (!status) status = cuda.cuDeviceGetAttribute(&minor, COMPUTE_CAPABILITY_MINOR, handle);
        devices[index].architecture = 10 * major + minor;
        if (!status) status = cuda.cuDevicePrimaryCtxRetain(&devices[index].context, handle);
        if (status) return check_driver(status, "Opening the GPU", error);
    }
    *d = devices[index];
    return CAUSAL_CONV1D_OK;
}

/* Compiles a text; the machine code is for the caller to free. */
static causal_conv1d_status compile(const char *text, const char *architecture, char **code,
                                    size_t *size, causal_conv1d_error *error)
{
    /* The shader includes <metal_stdlib>, whose place metal_on_cuda.h takes. */
    const char *header = "", *header_name = "metal_stdlib";
    const char *const options[] = {"-default-device", "-std=c++17", architecture,
                                   "-diag-suppress=1097"}; /* unknown attributes */
    nvrtcProgram program;
    char *log = NULL;
    *code = NULL;
    int status =
        cuda.nvrtcCreateProgram(&program, text, "causal_conv1d.metal", 1, &header, &header_name);
    if (status)
        return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED, "NVRTC failed with status %d", status);
    status = cuda.nvrtcCompileProgram(program, 4, options);
    if (!status) status = cuda.nvrtcGetCUBINSize(program, size);
    if (!status && (*code = malloc(*size))) status = cuda.nvrtcGetCUBIN(program, *code);
    if (status || !*code) {
        size_t log_size = 0;
        cuda.nvrtcGetProgramLogSize(program, &log_size);
        if (log_size && (log = malloc(log_size))) cuda.nvrtcGetProgramLog(program, log);
        cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED,
                  "The shader does not compile for %s: status %d: %s", architecture, status,
                  log ? log : "no log");
        free(log);
        free(*code);
        *code = NULL;
    }
    cuda.nvrtcDestroyProgram(&program);
    return *code ? CAUSAL_CONV1D_OK : CAUSAL_CONV1D_DEVICE_FAILED;
}

/* The kernel of a variant from the cache on disk, or else compiled. */
static causal_conv1d_status build(const cc1d_variant *variant, int architecture, CUkernel *kernel,
                                  causal_conv1d_error *error)
{
    char preamble[1024], option[32];
    const char *const parts[] = {cc1d_args_h,
                                 cc1d_metal_on_cuda_h,
                                 preamble,
                                 "#line 1 \"causal_conv1d.metal\"\n",
                                 cc1d_causal_conv1d_metal,
                                 "\nKERNEL_ENTRY(",
                                 cc1d_kernel_name(variant),
                                 ")\n"};
    const size_t count = sizeof parts / sizeof *parts;
    size_t length = 1, size = 0;
    int major = 0, minor = 0;
    cc1d_preamble(variant, preamble, sizeof preamble);
    snprintf(option, sizeof option, "-arch=sm_%d", architecture);
    for (size_t i = 0; i < count; i++) length += strlen(parts[i]);
    char *text = malloc(length), *code = NULL;
    if (!text)
        return cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY, "No memory for the shader's text");
    *text = 0;
    for (size_t i = 0, at = 0; i < count; i++) {
        memcpy(text + at, parts[i], strlen(parts[i]) + 1);
        at += strlen(parts[i]);
    }
    cuda.nvrtcVersion(&major, &minor);
    cc1d_cache_key key = cc1d_cache_key_of(text, option, major * 1000 + minor);
    causal_conv1d_status status = CAUSAL_CONV1D_OK;
    code = cc1d_cache_read(&key, &size);
    if (!code) {
        status = compile(text, option, &code, &size, error);
        if (status == CAUSAL_CONV1D_OK) cc1d_cache_write(&key, code, size);
    }
    free(text);
    if (status != CAUSAL_CONV1D_OK) return status;
    CUlibrary library;
    int failed = cuda.cuLibraryLoadData(&library, code, NULL, NULL, 0, NULL, NULL, 0);
    if (!failed) failed = cuda.cuLibraryGetKernel(kernel, library, "entry");
    free(code);
    return check_driver(failed, "Loading a kernel", error);
}

/* Every variant that was built in this process, and stays. */
typedef struct built {
    cc1d_variant variant;
    int architecture;
    CUkernel kernel;
    struct built *next;
} built;

static built *all;

/* The kernel of a variant, built on its first use. */
static causal_conv1d_status find(const cc1d_variant *variant, int architecture, CUkernel *kernel,
                                 causal_conv1d_error *error)
{
    built *b = all;
    while (b && (b->architecture != architecture || memcmp(&b->variant, variant, sizeof *variant)))
        b = b->next;
    if (!b) {
        b = calloc(1, sizeof *b);
        if (!b) return cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY, "No memory for a kernel");
        causal_conv1d_status status = build(variant, architecture, &b->kernel, error);
        if (status != CAUSAL_CONV1D_OK) {
            free(b);
            return status;
        }
        b->variant = *variant;
        b->architecture = architecture;
        b->next = all;
        all = b;
    }
    *kernel = b->kernel;
    return CAUSAL_CONV1D_OK;
}

/* As metal_on_cuda.h has it. */
typedef struct arguments {
    int64_t slot[CC1D_SLOTS];
    uint32_t origin[3];
} arguments;

/* Blocks that one launch may have along a dimension. */
static const uint64_t most_blocks[3] = {(1u << 31) - 1, 65535, 65535};

static int launch(const cc1d_launch *l, CUkernel kernel, void *stream)
{
    arguments a = {.origin = {0, 0, 0}};
    void *parameters[] = {&a};
    uint64_t blocks[3];
    unsigned group[3];
    int status = 0;
    for (int i = 0; i < l->slot_count; i++)
        a.slot[i] =
            l->slots[i].tensor ? (int64_t)(intptr_t)l->slots[i].tensor->data : l->slots[i].number;
    for (int i = 0; i < 3; i++) {
        blocks[i] = (l->grid[i] + l->group[i] - 1) / l->group[i];
        group[i] = (unsigned)l->group[i];
    }
    for (uint64_t z = 0; z < blocks[2]; z += most_blocks[2])
        for (uint64_t y = 0; y < blocks[1]; y += most_blocks[1])
            for (uint64_t x = 0; x < blocks[0] && !status; x += most_blocks[0]) {
                const uint64_t begin[3] = {x, y, z};
                unsigned count[3];
                for (int i = 0; i < 3; i++) {
                    uint64_t left = blocks[i] - begin[i];
                    count[i] = (unsigned)(left < most_blocks[i] ? left : most_blocks[i]);
                    a.origin[i] = (uint32_t)(begin[i] * l->group[i]);
                }
                status = cuda.cuLaunchKernel(kernel, count[0], count[1], count[2], group[0],
                                             group[1], group[2], 0, stream, parameters, NULL);
            }
    return status;
}

static causal_conv1d_status prepare(const causal_conv1d_tensor *x, const cc1d_launch *launches,
                                    int count, device *d, CUkernel *kernels,
                                    causal_conv1d_error *error)
{
    causal_conv1d_status status = atomic_load(&opened) ? CAUSAL_CONV1D_OK : open_libraries(error);
    if (status == CAUSAL_CONV1D_OK) status = find_device(x->device_index, d, error);
    for (int i = 0; i < count && status == CAUSAL_CONV1D_OK; i++)
        status = find(&launches[i].variant, d->architecture, &kernels[i], error);
    return status;
}

static causal_conv1d_status run(const causal_conv1d_tensor *x, const cc1d_launch *launches,
                                int count, causal_conv1d_error *error)
{
    device d = {NULL, 0};
    CUkernel kernels[4];
    CUcontext current = NULL;
    void *stream = NULL;
    cc1d_acquire(&lock);
    causal_conv1d_status prepared = prepare(x, launches, count, &d, kernels, error);
    cc1d_leave(&lock);
    if (prepared != CAUSAL_CONV1D_OK) return prepared;
    if (cuda.aoti_torch_get_current_cuda_stream(x->device_index, &stream))
        return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED, "PyTorch has no current stream");
    int status = cuda.cuCtxGetCurrent(&current);
    bool pushed = false; /* the call is about another GPU than the current one */
    if (!status && current != d.context) {
        status = cuda.cuCtxPushCurrent_v2(d.context);
        pushed = !status;
    }
    for (int i = 0; i < count && !status; i++) status = launch(&launches[i], kernels[i], stream);
    if (pushed) cuda.cuCtxPopCurrent_v2(&current);
    return check_driver(status, "Launching a kernel", error);
}

/* Measured on an H100 and an H200. */
const cc1d_gpu cc1d_cuda = {run, {{4, 8}, {64, 32}, {16, 32}, {256, 128}, 2, 32, 256, 2}};
