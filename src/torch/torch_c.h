/* The functions of PyTorch's C interface that ops.c uses, as C11 prototypes.
 *
 * They are declared in C++ headers of PyTorch: torch/csrc/stable/c/shim.h and
 * torch/csrc/inductor/aoti_torch/c/shim.h.  tests/torch_c_abi.cpp compares each with those.
 * libtorch is no link dependency: ops.c looks the functions up in the copy that is loaded. */
#ifndef CAUSAL_CONV1D_TORCH_C_H
#define CAUSAL_CONV1D_TORCH_C_H

#include <stdbool.h>
#include <stdint.h>

typedef struct AtenTensorOpaque *AtenTensorHandle;
typedef struct TorchLibraryOpaque *TorchLibraryHandle;
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
    X(AOTITorchError, aoti_torch_get_data_ptr, (AtenTensorHandle, void **))                       \
    X(AOTITorchError, aoti_torch_get_dim, (AtenTensorHandle, int64_t *))                          \
    X(AOTITorchError, aoti_torch_get_sizes, (AtenTensorHandle, int64_t **))                       \
    X(AOTITorchError, aoti_torch_get_strides, (AtenTensorHandle, int64_t **))                     \
    X(AOTITorchError, aoti_torch_get_dtype, (AtenTensorHandle, int32_t *))                        \
    X(AOTITorchError, aoti_torch_get_device_type, (AtenTensorHandle, int32_t *))                  \
    X(AOTITorchError, aoti_torch_get_device_index, (AtenTensorHandle, int32_t *))                 \
    X(AOTITorchError, aoti_torch_empty_strided,                                                   \
      (int64_t, const int64_t *, const int64_t *, int32_t, int32_t, int32_t, AtenTensorHandle *)) \
    X(AOTITorchError, aoti_torch_copy_, (AtenTensorHandle, AtenTensorHandle, int32_t))            \
    X(AOTITorchError, aoti_torch_delete_tensor_object, (AtenTensorHandle))

#endif
