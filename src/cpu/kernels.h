/* The contract of the CPU kernels, and the table of one that each ISA fills.
 *
 * A kernel computes one tile.  Its arguments have passed check.c, so it only asserts.  Tiles
 * depend on the shape, layout and cu_seqlens alone (cpu.c), never on the ISA or the number of
 * threads. */
#ifndef CAUSAL_CONV1D_CPU_KERNELS_H
#define CAUSAL_CONV1D_CPU_KERNELS_H

#include <stdint.h>

#include "../../include/causal_conv1d.h"

/* The specialised widths.  Others, like fp64 and other strides, have kernels for any
 * (any.inc.h). */
#ifndef CC1D_WIDTHS /* sanitizers, whose compiles take minutes, name fewer */
#define CC1D_WIDTHS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#endif
#define CC1D_MAX_WIDTH 8
_Static_assert(CC1D_MAX_WIDTH <= 8, "cc1d_args.masks has a byte of tap bits per time");

/* Channels of a tile in layout CC1D_DIM, at the most: bounds the kernels' stack (check_stack). */
#define CC1D_DIM_TILE 352

/* The tensors of any call, those it lacks absent, as the public structs describe them. */
typedef struct cc1d_args {
    causal_conv1d_tensor x, weight, bias, seq_idx, cu_seqlens;
    causal_conv1d_tensor states; /* initial_states or conv_state: (.,D,L), L >= W-1 */
    causal_conv1d_tensor cache_seqlens, conv_state_indices;
    causal_conv1d_tensor out;
    causal_conv1d_tensor dout, dfinal_states, dx, dinitial_states;
    bool silu;
    bool stream; /* write whole cache lines of out past the caches, where the ISA and layout can */
    /* For the specialised widths, if there is seq_idx: bit k of [b * T + t] says whether tap k
     * counts at time t, 0 stands for padding.  64 more bytes may be read. */
    const uint8_t *masks;
} cc1d_args;

/* Sequence n of a call: columns [start, start + length) of batch row `batch`, after the history in
 * the W-1 columns of its state row that begin at `column` and wrap around at L. */
typedef struct cc1d_sequence {
    int64_t batch, start, length;
    int64_t state, column;
} cc1d_sequence;

cc1d_sequence cc1d_sequence_at(const cc1d_args *args, int64_t n);

/* Sequences [batch_begin, batch_end), channels [dim_begin, dim_end), and of each sequence the times
 * [time_begin, time_end) as far as it has them. */
typedef struct cc1d_tile {
    int64_t batch_begin, batch_end;
    int64_t dim_begin, dim_end;
    int64_t time_begin, time_end;
    /* For kernels with columns: how many channels a row of scratch memory holds, <= columns.  The
     * other columns take other sequences or times of the same channels. */
    int64_t channels;
    void *scratch; /* cc1d_scratch_bytes, on a multiple of 64 */
} cc1d_tile;

/* Times that the kernels for any width have in scratch memory at once, and the rows beyond that
 * their loops may touch. */
enum { CC1D_BLOCK = 192, CC1D_SPARE = 16 };

static inline int64_t cc1d_block(const cc1d_args *args)
{
    const int64_t seqlen = args->x.size[2] > 0 ? args->x.size[2] : 1;
    return seqlen < CC1D_BLOCK ? seqlen : CC1D_BLOCK;
}

/* Of a thread: rows of 64 bytes, and the ids of a block. */
static inline int64_t cc1d_scratch_bytes(const cc1d_args *args)
{
    const int64_t width = args->weight.size[1], block = cc1d_block(args);
    return 64 * (8 * width + 3 * block + 6 * CC1D_SPARE + 4) + 8 * (width + block);
}

/* Which stride is 1 in x and in every other (B,D,T) tensor of the call. */
typedef enum cc1d_layout {
    CC1D_TIME,    /* channel-first, (B,D,T) contiguous rows of time */
    CC1D_DIM,     /* channels-last, rows of channels */
    CC1D_STRIDED, /* anything else */
} cc1d_layout;

/* Writes out over the tile. */
typedef void cc1d_forward_kernel(const cc1d_args *args, const cc1d_tile *tile);

/* Writes dx over the tile, dinitial_states where it begins a sequence, and the sums over the tile's
 * sequences and times that dweight (rows 0..W-1) and dbias (row W) are made of to
 * partial[row * D + d] for the tile's channels: double if x is fp64, else float. */
typedef void cc1d_backward_kernel(const cc1d_args *args, const cc1d_tile *tile, void *partial);

/* Writes out and moves the states on.  For T = 1, layout CC1D_DIM, states of L = W or W-1
 * columns, which or whose channels are contiguous, no ring. */
typedef void cc1d_update_kernel(const cc1d_args *args, const cc1d_tile *tile);

typedef struct cc1d_kernels {
    cc1d_forward_kernel *forward;
    cc1d_backward_kernel *backward;
    cc1d_update_kernel *update; /* NULL in the scalar code, and for any width */
    int columns;                /* of a row of scratch memory; 0: the kernels need none */
} cc1d_kernels;

/* A number for a layout, dtype of x and width; width <= CC1D_MAX_WIDTH. */
#define CC1D_VARIANT(layout, dtype, width) \
    (((layout) * 8 + (dtype)) * (CC1D_MAX_WIDTH + 1) + (width))

typedef struct cc1d_isa {
    const char *name;
    uint32_t features;                        /* all that it needs, CC1D_* of features.h */
    cc1d_kernels (*kernels)(int64_t variant); /* NULLs where it has none */
    cc1d_kernels (*any)(bool f64);            /* for any width and strides */
} cc1d_isa;

/* Every ISA of this build, the best first, "scalar" last; NULL ends the list. */
extern const cc1d_isa *const cc1d_isas[];

/* The first of them that this CPU has and CAUSAL_CONV1D_HIDE allows. */
const cc1d_isa *cc1d_best_isa(void);

/* The scalar code, for any arguments. */
cc1d_forward_kernel cc1d_forward_scalar;
cc1d_backward_kernel cc1d_backward_scalar;

/* Moves the states on: column j of `states` becomes column length - L + j of each sequence, counted
 * on from args->states where it is negative (0 if there are none).  With cache_seqlens x is written
 * into the ring instead.  `states` may be args->states.  Also writes 0 to args->out, if present,
 * where conv_state_indices says padding. */
void cc1d_move_states(const cc1d_args *args, const causal_conv1d_tensor *states,
                      const causal_conv1d_threads *threads);

/* Writes 0 to the times of t, out or dx, that come after the last packed sequence. */
void cc1d_clear_padding(const cc1d_args *args, const causal_conv1d_tensor *t,
                        const causal_conv1d_threads *threads);

/* Run checked arguments with the kernels of one ISA; stream as in cc1d_args. */
causal_conv1d_status cc1d_cpu_forward(const cc1d_isa *isa, const causal_conv1d_forward_args *args,
                                      bool stream, const causal_conv1d_threads *threads);
causal_conv1d_status cc1d_cpu_backward(const cc1d_isa *isa, const causal_conv1d_backward_args *args,
                                       const causal_conv1d_threads *threads);
causal_conv1d_status cc1d_cpu_update(const cc1d_isa *isa, const causal_conv1d_update_args *args,
                                     const causal_conv1d_threads *threads);
causal_conv1d_status cc1d_cpu_varlen_states(const causal_conv1d_varlen_states_args *args,
                                            const causal_conv1d_threads *threads);

#endif
