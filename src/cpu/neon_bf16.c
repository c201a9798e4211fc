/* The bf16 kernels of neon.c once more, for cores that round to bf16 by an instruction. */
#define ONLY_BF16
#include "neon.c"
