/* The contract of the CPU kernels, and the table of one that each ISA fills.
 *
 * A kernel computes one tile.  Its arguments have passed check.c, so it only asserts.  Tiles
 * depend on the shape and layout alone (cpu.c), never on the ISA or the number of threads. */
#ifndef CAUSAL_CONV1D_CPU_KERNELS_H
#define CAUSAL_CONV1D_CPU_KERNELS_H

#include <stdint.h>

#include "../../include/causal_conv1d.h"

/* The specialised widths.  Others, like fp64 and other strides, are served by the scalar code. */
#define CC1D_WIDTHS(X) X(2) X(3) X(4)
#define CC1D_MAX_WIDTH 4

/* Channels of a tile in layout CC1D_DIM, at the most: bounds the kernels' stack. */
#define CC1D_DIM_TILE 256

typedef struct cc1d_tile {
    int64_t batch_begin, batch_end;
    int64_t dim_begin, dim_end;
    int64_t time_begin, time_end;
} cc1d_tile;

/* Which stride is 1 in x and in every other (B,D,T) tensor of the call. */
typedef enum cc1d_layout {
    CC1D_TIME,    /* channel-first, (B,D,T) contiguous rows of time */
    CC1D_DIM,     /* channels-last, rows of channels */
    CC1D_STRIDED, /* anything else */
} cc1d_layout;

/* Writes out over the tile. */
typedef void cc1d_forward_kernel(const causal_conv1d_forward_args *args, const cc1d_tile *tile);

/* Writes dx over the tile, and the sums over the tile's batches and times that dweight (rows
 * 0..W-1) and dbias (row W) are made of to partial[row * D + d] for the tile's channels:
 * double if x is fp64, else float. */
typedef void cc1d_backward_kernel(const causal_conv1d_backward_args *args, const cc1d_tile *tile,
                                  void *partial);

typedef struct cc1d_kernels {
    cc1d_forward_kernel *forward;
    cc1d_backward_kernel *backward;
} cc1d_kernels;

/* A number for a layout, dtype of x, width and activation; width <= CC1D_MAX_WIDTH. */
#define CC1D_VARIANT(layout, dtype, width, silu) \
    ((((layout) * 8 + (dtype)) * (CC1D_MAX_WIDTH + 1) + (width)) * 2 + (silu))

typedef struct cc1d_isa {
    const char *name;
    uint32_t features;                        /* all that it needs, CC1D_* of features.h */
    cc1d_kernels (*kernels)(int64_t variant); /* NULLs where it has none */
} cc1d_isa;

/* Every ISA of this build, the best first, "scalar" last; NULL ends the list. */
extern const cc1d_isa *const cc1d_isas[];

/* The first of them that this CPU has and CAUSAL_CONV1D_HIDE allows. */
const cc1d_isa *cc1d_best_isa(void);

/* The scalar code, for any arguments. */
cc1d_forward_kernel cc1d_forward_scalar;
cc1d_backward_kernel cc1d_backward_scalar;

/* Run checked arguments with the kernels of one ISA. */
void cc1d_cpu_forward(const cc1d_isa *isa, const causal_conv1d_forward_args *args,
                      const causal_conv1d_threads *threads);
causal_conv1d_status cc1d_cpu_backward(const cc1d_isa *isa, const causal_conv1d_backward_args *args,
                                       const causal_conv1d_threads *threads);

#endif
