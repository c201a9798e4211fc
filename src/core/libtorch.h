/* The functions of PyTorch's C interface that are used here, as C11 prototypes.
 *
 * They are declared in C++ headers of PyTorch: torch/csrc/stable/c/shim.h, and shim.h and
 * shim_mps.h of torch/csrc/inductor/aoti_torch/c/.  tests/libtorch_abi.cpp compares each with
 * those. libtorch is no link dependency: libtorch.c looks the functions up in the copy that is
 * loaded. */
#ifndef CAUSAL_CONV1D_CORE_LIBTORCH_H
#define CAUSAL_CONV1D_CORE_LIBTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lent.h"

typedef struct AtenTensorOpaque *AtenTensorHandle;
typedef struct TorchLibraryOpaque *TorchLibraryHandle;
typedef struct AOTIMetalShaderLibraryOpaque *AOTIMetalShaderLibraryHandle;
typedef struct AOTIMetalKernelFunctionOpaque *AOTIMetalKernelFunctionHandle;
typedef int32_t AOTITorchError;
typedef uint64_t StableIValue; /* a handle, an integer, or a pointer to the cell of an optional */

/* The oldest PyTorch that has them all, as aoti_torch_abi_version counts. */
#define TORCH_MINIMUM 0x020a000000000000u

/* X(result, name, parameters) */
#define TORCH_FUNCTIONS(X)                                                                        \
    X(AOTITorchError, aoti_torch_library_init_def,                                                \
      (const char *, const char *, uint32_t, TorchLibraryHandle *))                               \
    X(AOTITorchError, aoti_torch_library_init_impl,                                               \
      (const char *, const char *, const char *, uint32_t, TorchLibraryHandle *))                 \
    X(AOTITorchError, aoti_torch_library_def, (TorchLibraryHandle, const char *))                 \
    X(AOTITorchError, torch_library_impl,                                                         \
      (TorchLibraryHandle, const char *, void (*)(StableIValue *, uint64_t, uint64_t), uint64_t)) \
    X(void, aoti_torch_check, (bool, const char *, const char *, uint32_t, const char *))         \
    X(AOTITorchError, torch_parallel_for,                                                         \
      (int64_t, int64_t, int64_t, void (*)(int64_t, int64_t, void *), void *))                    \
    X(int32_t, aoti_torch_dtype_float32, (void))                                                  \
    X(int32_t, aoti_torch_dtype_float16, (void))                                                  \
    X(int32_t, aoti_torch_dtype_bfloat16, (void))                                                 \
    X(int32_t, aoti_torch_dtype_float64, (void))                                                  \
    X(int32_t, aoti_torch_dtype_int32, (void))                                                    \
    X(int32_t, aoti_torch_dtype_int64, (void))                                                    \
    X(int32_t, aoti_torch_device_type_cpu, (void))                                                \
    X(int32_t, aoti_torch_device_type_cuda, (void))                                               \
    X(int32_t, aoti_torch_device_type_mps, (void))                                                \
    X(AOTITorchError, aoti_torch_get_data_ptr, (AtenTensorHandle, void **))                       \
    X(AOTITorchError, aoti_torch_get_dim, (AtenTensorHandle, int64_t *))                          \
    X(AOTITorchError, aoti_torch_get_sizes, (AtenTensorHandle, int64_t **))                       \
    X(AOTITorchError, aoti_torch_get_strides, (AtenTensorHandle, int64_t **))                     \
    X(AOTITorchError, aoti_torch_get_storage_offset, (AtenTensorHandle, int64_t *))               \
    X(AOTITorchError, aoti_torch_get_dtype, (AtenTensorHandle, int32_t *))                        \
    X(AOTITorchError, aoti_torch_get_device_type, (AtenTensorHandle, int32_t *))                  \
    X(AOTITorchError, aoti_torch_get_device_index, (AtenTensorHandle, int32_t *))                 \
    X(AOTITorchError, aoti_torch_empty_strided,                                                   \
      (int64_t, const int64_t *, const int64_t *, int32_t, int32_t, int32_t, AtenTensorHandle *)) \
    X(AOTITorchError, aoti_torch_copy_, (AtenTensorHandle, AtenTensorHandle, int32_t))            \
    X(AOTITorchError, aoti_torch_delete_tensor_object, (AtenTensorHandle))

/* Those that a PyTorch with Apple GPUs has. */
#define TORCH_MPS_FUNCTIONS(X)                                                                  \
    X(AOTITorchError, aoti_torch_mps_create_shader_library,                                     \
      (const char *, AOTIMetalShaderLibraryHandle *))                                           \
    X(AOTITorchError, aoti_torch_mps_get_kernel_function,                                       \
      (AOTIMetalShaderLibraryHandle, const char *, AOTIMetalKernelFunctionHandle *))            \
    X(AOTITorchError, aoti_torch_mps_run_command_block,                                         \
      (AOTIMetalKernelFunctionHandle, void (*)(AOTIMetalKernelFunctionHandle, void *), void *)) \
    X(AOTITorchError, aoti_torch_mps_start_encoding, (AOTIMetalKernelFunctionHandle))           \
    X(AOTITorchError, aoti_torch_mps_set_arg_tensor,                                            \
      (AOTIMetalKernelFunctionHandle, unsigned, AtenTensorHandle))                              \
    X(AOTITorchError, aoti_torch_mps_set_arg_int,                                               \
      (AOTIMetalKernelFunctionHandle, unsigned, int64_t))                                       \
    X(AOTITorchError, aoti_torch_mps_dispatch_array_with_group_size,                            \
      (AOTIMetalKernelFunctionHandle, const uint64_t *, size_t, const uint64_t *, size_t))

/* The functions of the PyTorch that is loaded; NULL where it has none. */
typedef struct cc1d_torch_functions {
#define X(result, name, parameters) result(*name) parameters;
    TORCH_FUNCTIONS(X)
    TORCH_MPS_FUNCTIONS(X)
#undef X
    /* Either frees the cell of an optional argument: the first from PyTorch 2.13 on. */
    AOTITorchError (*torch_delete_stable_ivalue)(StableIValue *);
    void (*operator_delete)(void *);
    /* Why the last of these functions failed; from PyTorch 2.13 on, before it is printed. */
    const char *(*torch_exception_get_what_without_backtrace)(void);
    char path[1024];                             /* where libtorch_cpu lies, or "" */
    int32_t dtypes[CAUSAL_CONV1D_OTHER];         /* PyTorch's number of each of our dtypes */
    int32_t devices[CAUSAL_CONV1D_OTHER_DEVICE]; /* and of our devices */
} cc1d_torch_functions;

extern cc1d_torch_functions cc1d_torch;

/* What PyTorch calls the dtype, and the type of the device, of a tensor; NULL if its C interface
 * has no name for it. */
const char *cc1d_torch_dtype_name(AtenTensorHandle tensor);
const char *cc1d_torch_device_name(AtenTensorHandle tensor);

/* Why the last of PyTorch's functions failed. */
const char *cc1d_torch_reason(void);

/* Fills cc1d_torch; path is where libtorch_cpu lies, or NULL to look under its usual name.  NULL,
 * or what was wrong. */
const char *cc1d_torch_open(const char *path);

/* Memory from PyTorch. */
extern const cc1d_workspace cc1d_torch_workspace;

#endif
