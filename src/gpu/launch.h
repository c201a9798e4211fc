/* A launch of a kernel of causal_conv1d.metal, and what runs launches: plan.c makes them, once for
 * all GPUs; metal.c and cuda.c run them. */
#ifndef CAUSAL_CONV1D_GPU_LAUNCH_H
#define CAUSAL_CONV1D_GPU_LAUNCH_H

#include "../core/lent.h"
#include "args.h"

/* What the preamble of a text says: two launches of equal variants run the same machine code. */
typedef struct cc1d_variant {
    int32_t width;
    uint8_t kernel;              /* CC1D_FORWARD_TIME... of args.h */
    uint8_t value, weight, bias; /* causal_conv1d_dtype */
    uint8_t vector;              /* elements of an access */
    uint8_t rows;                /* vectors that a thread has in flight */
    uint8_t options;             /* CC1D_SILU... */
    uint8_t wide;                /* CC1D_WIDE_... */
    uint8_t single;              /* columns of the state of an update of one time, else 0 */
    uint8_t zero[3];             /* variants are compared by their bytes */
} cc1d_variant;

enum {
    CC1D_SILU = 1,
    CC1D_HAS_BIAS = 2,
    CC1D_SEQ_IDX = 4,
    CC1D_PACKED = 8,
    CC1D_INITIAL = 16,
    CC1D_FINAL = 32,
    CC1D_RING = 64,
    CC1D_INDEXED = 128,
};

/* 64 bits instead of 32. */
enum { CC1D_WIDE_OFFSETS = 1, CC1D_WIDE_IDS = 2, CC1D_WIDE_ROWS = 4 };

/* An argument: a tensor, or a number if that is NULL. */
typedef struct cc1d_slot {
    const causal_conv1d_tensor *tensor;
    int64_t number;
} cc1d_slot;

typedef struct cc1d_launch {
    cc1d_variant variant;
    int slot_count;
    uint32_t slots_set; /* a bit each, for an assertion */
    cc1d_slot slots[CC1D_SLOTS];
    uint64_t grid[3];  /* threads, of which the last groups may have fewer */
    uint64_t group[3]; /* threads of a group */
} cc1d_launch;

/* Sizes that differ between kinds of GPUs.  They decide in which order backward adds up, nothing
 * else of a result. */
typedef struct cc1d_tuning {
    /* Forward along the channels, of 4-byte and of 2-byte elements: */
    int64_t forward_bytes[2];  /* of an access */
    int64_t forward_flight[2]; /* bytes of those under way in a thread */
    int64_t forward_run[2];    /* times of a thread, at the most */
    int64_t forward_group[2];  /* threads of a group */
    int64_t backward_channels; /* elements of an access along the channels */
    int64_t backward_flight;   /* bytes of those under way in a thread */
    int64_t backward_run;      /* times of a thread, at the most */
    int64_t time_rows;         /* vectors in flight along the time, forward */
} cc1d_tuning;

/* A kind of GPU. */
typedef struct cc1d_gpu {
    /* Encodes the launches, in this order, and does not wait for them. */
    causal_conv1d_status (*run)(const causal_conv1d_tensor *x, const cc1d_launch *launches,
                                int count, causal_conv1d_error *error);
    cc1d_tuning tuning;
} cc1d_gpu;

extern const cc1d_gpu cc1d_metal;
extern const cc1d_gpu cc1d_cuda;

/* The name of the variant's kernel. */
const char *cc1d_kernel_name(const cc1d_variant *variant);

/* The #defines of a variant; size 1024 is enough. */
void cc1d_preamble(const cc1d_variant *variant, char *text, size_t size);

/* A launch of a kernel with so many slots, each of which is to be set once. */
cc1d_launch cc1d_launch_of(cc1d_variant variant, int slot_count);
void cc1d_set_tensor(cc1d_launch *launch, int slot, const causal_conv1d_tensor *tensor,
                     const causal_conv1d_tensor *in_place_of_none);
void cc1d_set_number(cc1d_launch *launch, int slot, int64_t number);

/* The strides of the tensor's three dimensions, from the slot of the first on. */
void cc1d_set_strides(cc1d_launch *launch, int slot, const causal_conv1d_tensor *tensor);

/* Threads in all, and threads of a group. */
void cc1d_set_grid(cc1d_launch *launch, int64_t x, int64_t y, int64_t z);
void cc1d_set_group(cc1d_launch *launch, int64_t x, int64_t y);

/* A group of `most` threads over the first two dimensions of the grid, as wide as the first needs.
 */
void cc1d_set_flat_group(cc1d_launch *launch, int64_t most);
bool cc1d_has_threads(const cc1d_launch *launch);

/* CC1D_WIDE_OFFSETS if the offsets into one of these tensors need it, else 0. */
uint8_t cc1d_wide_offsets(const causal_conv1d_tensor *const *tensors, int count);

/* Runs the launches, if the grid of each can be counted in 32 bits. */
causal_conv1d_status cc1d_run_launches(const cc1d_gpu *gpu, const causal_conv1d_tensor *x,
                                       const cc1d_launch *launches, int count,
                                       causal_conv1d_error *error);

#endif
