/* Registers the operations with the PyTorch of this process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cpu/features.h"
#include "call.h"
#include "ops.h"

#define torch cc1d_torch

/* Registers the operations under torch.ops.causal_conv1d_mps with the PyTorch of this process;
 * path is where its libtorch_cpu lies, or NULL to look under its usual name.  Returns NULL, or
 * what was wrong.  A second call does nothing. */
CAUSAL_CONV1D_API const char *causal_conv1d_torch_register(const char *path)
{
    static char error[256];
    static bool done;
    /* What a user sets is not ignored: the caller makes these an error, not a reason for plain
     * PyTorch. */
    size_t length;
    const char *unknown = cc1d_unknown_feature(getenv("CAUSAL_CONV1D_HIDE"), &length);
    if (unknown) {
#define X(name) " " #name
        snprintf(error, sizeof error,
                 "CAUSAL_CONV1D_HIDE: %.*s is no CPU feature, expected some of" CC1D_FEATURES(X),
                 (int)length, unknown);
#undef X
        return error;
    }
    const char *huge = getenv("CAUSAL_CONV1D_HUGE_PAGES");
    if (huge && *huge && strcmp(huge, "0") != 0 && strcmp(huge, "1") != 0) {
        snprintf(error, sizeof error, "CAUSAL_CONV1D_HUGE_PAGES: expected 0 or 1, got %s", huge);
        return error;
    }
    cc1d_huge_pages = !huge || strcmp(huge, "0") != 0;
    if (done) return NULL;
    const char *problem = cc1d_torch_open(path);
    if (problem) return problem;
    static const char *const keys[] = {"CPU", "MPS", "CUDA"};
    const char *space = "causal_conv1d_mps";
    TorchLibraryHandle library;
    AOTITorchError failed = torch.aoti_torch_library_init_def(space, __FILE__, __LINE__, &library);
    if (failed) /* a namespace is defined once in a process */
        return "another copy of the library has registered causal_conv1d_mps in this process: "
               "expected one, so remove the other from sys.path or from what loads it";
    for (size_t i = 0; !failed && cc1d_operations[i].name; i++)
        failed = torch.aoti_torch_library_def(library, cc1d_operations[i].schema);
    for (size_t key = 0; !failed && key < sizeof keys / sizeof *keys; key++) {
        failed = torch.aoti_torch_library_init_impl(space, keys[key], __FILE__, __LINE__, &library);
        for (size_t i = 0; !failed && cc1d_operations[i].name; i++)
            failed = torch.torch_library_impl(library, cc1d_operations[i].name,
                                              cc1d_operations[i].kernel, TORCH_MINIMUM);
    }
    if (failed) return "PyTorch refused to register the operations of causal_conv1d_mps";
    done = true;
    return NULL;
}
