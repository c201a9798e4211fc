/* Runs the launches of a call on an Apple GPU, through PyTorch's C interface to Metal. */
#define _DEFAULT_SOURCE /* S_ISREG, fdopen */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "../core/error.h"
#include "../core/libtorch.h"
#include "../core/lock.h"
#include "launch.h"
#include "source.h"

#define torch cc1d_torch

/* Every variant that was compiled in this process, and stays. */
typedef struct compiled {
    cc1d_variant variant;
    AOTIMetalKernelFunctionHandle function;
    struct compiled *next;
} compiled;

static compiled *all;
static cc1d_lock lock = CC1D_LOCK_INIT;

/* Opens a regular file; NULL, and why not.  O_NONBLOCK: a FIFO would wait for a writer. */
static FILE *open_file(const char *path, const char **why)
{
#ifdef _WIN32
    FILE *file = fopen(path, "rb");
#else
    struct stat found;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const bool other = fd >= 0 && !fstat(fd, &found) && !S_ISREG(found.st_mode);
    FILE *file = fd < 0 || other ? NULL : fdopen(fd, "rb");
    if (fd >= 0 && !file) close(fd);
    if (other) {
        *why = "it is no regular file";
        return NULL;
    }
#endif
    if (!file) *why = strerror(errno);
    return file;
}

/* The text of a file, or NULL and why it cannot be had. */
static char *read_file(const char *path, const char **why)
{
    FILE *file = open_file(path, why);
    char *text = NULL;
    long size = -1;
    if (!file) return NULL;
    *why = "its size cannot be had";
    if (!fseek(file, 0, SEEK_END)) size = ftell(file);
    if (size >= 0 && !(text = malloc((size_t)size + 1))) *why = "no memory";
    if (text) {
        rewind(file);
        size_t got = fread(text, 1, (size_t)size, file);
        text[got] = 0;
        if (got != (size_t)size) free(text), text = NULL, *why = "it is cut short";
    }
    fclose(file);
    return text;
}

/* Compiles a variant of the shader: CAUSAL_CONV1D_METAL_PATH if that is set, else the one built in.
 */
static causal_conv1d_status compile(const cc1d_variant *variant,
                                    AOTIMetalKernelFunctionHandle *function,
                                    causal_conv1d_error *error)
{
    const char *path = getenv("CAUSAL_CONV1D_METAL_PATH");
    const char *name = path ? path : "the shader of causal_conv1d_mps";
    const char *why = NULL;
    char preamble[1024], *file = NULL;
    AOTIMetalShaderLibraryHandle library;
    if (path && !(file = read_file(path, &why)))
        return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED,
                         "CAUSAL_CONV1D_METAL_PATH: could not read %s: %s", path, why);
    const char *shader = file ? file : cc1d_causal_conv1d_metal;
    cc1d_preamble(variant, preamble, sizeof preamble);
    size_t size = strlen(preamble) + strlen(cc1d_args_h) + strlen(shader) + 64;
    char *text = malloc(size);
    if (!text) {
        free(file);
        return cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY, "No memory for the text of %s", name);
    }
    /* Apple's headers come before any macro of ours. */
    snprintf(text, size, "#include <metal_stdlib>\n%s%s\n#line 1\n%s", preamble, cc1d_args_h,
             shader);
    bool failed =
        torch.aoti_torch_mps_create_shader_library(text, &library) ||
        torch.aoti_torch_mps_get_kernel_function(library, cc1d_kernel_name(variant), function);
    free(text);
    free(file);
    if (!failed) return CAUSAL_CONV1D_OK;
    return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED, "%s does not compile: %s", name,
                     cc1d_torch_reason());
}

/* The kernel of a variant, compiled on its first use. */
static causal_conv1d_status find(const cc1d_variant *variant,
                                 AOTIMetalKernelFunctionHandle *function,
                                 causal_conv1d_error *error)
{
    causal_conv1d_status status = CAUSAL_CONV1D_OK;
    cc1d_acquire(&lock);
    compiled *c = all;
    while (c && memcmp(&c->variant, variant, sizeof *variant)) c = c->next;
    if (!c) {
        c = calloc(1, sizeof *c);
        status = c ? compile(variant, &c->function, error)
                   : cc1d_fail(error, CAUSAL_CONV1D_OUT_OF_MEMORY, "No memory for a kernel");
        if (status == CAUSAL_CONV1D_OK) {
            c->variant = *variant;
            c->next = all;
            all = c;
        } else {
            free(c);
            c = NULL;
        }
    }
    if (c) *function = c->function;
    cc1d_leave(&lock);
    return status;
}

typedef struct block {
    const cc1d_launch *launches;
    int count;
    AOTIMetalKernelFunctionHandle functions[4];
    AOTITorchError failed;
} block;

/* Called by PyTorch on the queue of its MPS stream; launches of one block run in order. */
static void encode(AOTIMetalKernelFunctionHandle first, void *user)
{
    block *b = user;
    (void)first;
    for (int i = 0; i < b->count && !b->failed; i++) {
        const cc1d_launch *l = &b->launches[i];
        AOTIMetalKernelFunctionHandle f = b->functions[i];
        b->failed = torch.aoti_torch_mps_start_encoding(f);
        for (int slot = 0; slot < l->slot_count && !b->failed; slot++) {
            const cc1d_slot *s = &l->slots[slot];
            b->failed = s->tensor ? torch.aoti_torch_mps_set_arg_tensor(f, (unsigned)slot,
                                                                        s->tensor->handle)
                                  : torch.aoti_torch_mps_set_arg_int(f, (unsigned)slot, s->number);
        }
        if (!b->failed)
            b->failed =
                torch.aoti_torch_mps_dispatch_array_with_group_size(f, l->grid, 3, l->group, 3);
    }
}

static causal_conv1d_status run(const causal_conv1d_tensor *x, const cc1d_launch *launches,
                                int count, causal_conv1d_error *error)
{
    block b = {.launches = launches, .count = count};
    (void)x;
    if (count == 0) return CAUSAL_CONV1D_OK;
    if (!torch.aoti_torch_mps_run_command_block)
        return cc1d_fail(error, CAUSAL_CONV1D_BAD_DEVICE,
                         "Expected a PyTorch with Apple GPUs in this process, got none");
    for (int i = 0; i < count; i++) {
        causal_conv1d_status status = find(&launches[i].variant, &b.functions[i], error);
        if (status != CAUSAL_CONV1D_OK) return status;
    }
    AOTITorchError failed = torch.aoti_torch_mps_run_command_block(b.functions[0], encode, &b);
    if (!failed && !b.failed) return CAUSAL_CONV1D_OK;
    return cc1d_fail(error, CAUSAL_CONV1D_DEVICE_FAILED, "PyTorch could not encode %s: %s",
                     cc1d_kernel_name(&launches[0].variant), cc1d_torch_reason());
}

/* Not measured: small enough for the registers of an Apple GPU. */
const cc1d_gpu cc1d_metal = {run, {{8, 8}, {32, 32}, {32, 32}, {128, 128}, 2, 32, 64, 1}};
