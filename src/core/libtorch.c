/* Looks PyTorch's functions up in the process, and asks them what is said of a tensor. */
#define _GNU_SOURCE /* RTLD_NOLOAD */
#include "libtorch.h"

#include <stdio.h>

#include "error.h"
#include "library.h"

#ifdef _WIN32
#define LIBTORCH "torch_cpu.dll"
#elif defined(__APPLE__)
#define LIBTORCH "@rpath/libtorch_cpu.dylib"
#else
#define LIBTORCH "libtorch_cpu.so"
#endif

cc1d_torch_functions cc1d_torch;
#define torch cc1d_torch
static void *libtorch;

const char *cc1d_torch_open(const char *path)
{
    static char error[256];
    uint64_t (*abi_version)(void) = NULL;
    libtorch = path ? cc1d_loaded_library(path) : NULL;
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
    return NULL;
}

const char *cc1d_torch_reason(void)
{
    if (torch.torch_exception_get_what_without_backtrace)
        return torch.torch_exception_get_what_without_backtrace();
    return "what PyTorch printed says why";
}

/* Those of `names` whose function `kind`_name() of PyTorch gives this number. */
static const char *name_of(int32_t number, const char *kind, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char function[64];
        int32_t (*get)(void) = NULL;
        snprintf(function, sizeof function, "aoti_torch_%s_%s", kind, names[i]);
        if (cc1d_resolve(libtorch, function, &get) && get() == number) return names[i];
    }
    return NULL;
}

const char *cc1d_torch_dtype_name(AtenTensorHandle tensor)
{
    static const char *const names[] = {
        "float32",        "float16",         "bfloat16",        "float64",
        "uint8",          "uint16",          "uint32",          "uint64",
        "int8",           "int16",           "int32",           "int64",
        "bool",           "complex32",       "complex64",       "complex128",
        "float8_e5m2",    "float8_e4m3fn",   "float8_e5m2fnuz", "float8_e4m3fnuz",
        "float8_e8m0fnu", "float4_e2m1fn_x2"};
    int32_t dtype = -1;
    torch.aoti_torch_get_dtype(tensor, &dtype);
    return name_of(dtype, "dtype", names, sizeof names / sizeof *names);
}

const char *cc1d_torch_device_name(AtenTensorHandle tensor)
{
    static const char *const names[] = {"cpu", "cuda", "meta", "xpu", "mps", "privateuse1"};
    int32_t type = -1;
    torch.aoti_torch_get_device_type(tensor, &type);
    return name_of(type, "device_type", names, sizeof names / sizeof *names);
}

static causal_conv1d_status allocate(const causal_conv1d_tensor *x, int64_t n,
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

/* PyTorch's allocators reuse memory in the order of the stream. */
static void release(causal_conv1d_tensor *memory)
{
    torch.aoti_torch_delete_tensor_object(memory->handle);
}

const cc1d_workspace cc1d_torch_workspace = {allocate, release};
