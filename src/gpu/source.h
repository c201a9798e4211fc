/* The texts that GPU compilers get.  The comment behind each array names the file that embed.awk
 * fills it with, in source.c, which the build makes. */
#ifndef CAUSAL_CONV1D_GPU_SOURCE_H
#define CAUSAL_CONV1D_GPU_SOURCE_H

extern const char cc1d_args_h[];              /* args.h */
extern const char cc1d_causal_conv1d_metal[]; /* causal_conv1d.metal */
extern const char cc1d_metal_on_cuda_h[];     /* metal_on_cuda.h */

#endif
