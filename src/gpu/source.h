/* The texts that GPU compilers get; source.c is written by tools/embed.py. */
#ifndef CAUSAL_CONV1D_GPU_SOURCE_H
#define CAUSAL_CONV1D_GPU_SOURCE_H

extern const char cc1d_args_h[];
extern const char cc1d_causal_conv1d_metal[];
extern const char cc1d_metal_on_cuda_h[];

#endif
