/* What the launchers in C and the shader agree on beside the order of each kernel's arguments. */
#ifndef CC1D_ARGS_H
#define CC1D_ARGS_H

/* The values of KERNEL: which kernel a text is compiled for. */
#define CC1D_ALL 0
#define CC1D_FORWARD_TIME 1
#define CC1D_FORWARD_DIM 2
#define CC1D_BACKWARD_TIME 3
#define CC1D_BACKWARD_DIM 4
#define CC1D_BACKWARD_GENERAL 5
#define CC1D_SUMS_GENERAL 6
#define CC1D_BACKWARD_STATES 7
#define CC1D_REDUCE 8
#define CC1D_STATES 9
#define CC1D_UPDATE 10

/* The widths whose taps are kept in registers; others take the general path. */
#define CC1D_GPU_MIN_WIDTH 2
#define CC1D_GPU_MAX_WIDTH 8

/* Threads of a SIMD group. */
#define CC1D_SIMD 32

/* Threads of a group, at the most. */
#define CC1D_GROUP 256

/* Threads that share the sum of one element in `reduce`. */
#define CC1D_REDUCE_SLICES 8

/* Argument slots of a kernel, as Metal has them. */
#define CC1D_SLOTS 31

#endif
