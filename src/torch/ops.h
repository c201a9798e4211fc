/* The PyTorch operations. */
#ifndef CAUSAL_CONV1D_TORCH_OPS_H
#define CAUSAL_CONV1D_TORCH_OPS_H

#include "../core/libtorch.h"

typedef struct cc1d_operation {
    const char *name, *schema;
    void (*kernel)(StableIValue *stack, uint64_t inputs, uint64_t outputs);
} cc1d_operation;

/* All of them; a NULL name ends the list. */
extern const cc1d_operation cc1d_operations[];

#endif
