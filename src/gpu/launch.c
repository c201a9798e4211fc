/* Variants and launches: the preamble of a variant, the slots, grid and groups of a launch. */
#include "launch.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../core/error.h"
#include "../core/tensor.h"

typedef causal_conv1d_tensor tensor;

static const char *const kernels[] = {
    [CC1D_FORWARD_TIME] = "forward_time",
    [CC1D_FORWARD_DIM] = "forward_dim",
    [CC1D_BACKWARD_TIME] = "backward_time",
    [CC1D_BACKWARD_DIM] = "backward_dim",
    [CC1D_BACKWARD_ANY_WIDTH] = "backward_any_width",
    [CC1D_SUMS_ANY_WIDTH] = "sums_any_width",
    [CC1D_BACKWARD_STATES] = "backward_states",
    [CC1D_REDUCE] = "reduce",
    [CC1D_STATES] = "states",
    [CC1D_UPDATE] = "update",
    [CC1D_FORWARD_WIDE_TIME] = "forward_wide_time",
    [CC1D_FORWARD_WIDE_DIM] = "forward_wide_dim",
};

const char *cc1d_kernel_name(const cc1d_variant *variant)
{
    return kernels[variant->kernel];
}

void cc1d_preamble(const cc1d_variant *v, char *text, size_t size)
{
    static const char *const types[] = {[CAUSAL_CONV1D_NONE] = "float",
                                        [CAUSAL_CONV1D_FLOAT32] = "float",
                                        [CAUSAL_CONV1D_FLOAT16] = "half",
                                        [CAUSAL_CONV1D_BFLOAT16] = "bfloat",
                                        [CAUSAL_CONV1D_FLOAT64] = "double"};
    static const char *const options[] = {"SILU",    "HAS_BIAS", "SEQ_IDX", "PACKED",
                                          "INITIAL", "FINAL",    "RING",    "INDEXED"};
    int n = snprintf(
        text, size,
        "#define KERNEL %d\n#define VALUE %s\n#define WEIGHT %s\n#define BIAS %s\n"
        "#define INDEX %s\n#define ID %s\n#define ROW %s\n#define WIDTH %d\n#define VECTOR %d\n"
        "#define ROWS %d\n#define SINGLE %d\n",
        v->kernel, types[v->value], types[v->weight], types[v->bias],
        v->wide & CC1D_WIDE_OFFSETS ? "long" : "int", v->wide & CC1D_WIDE_IDS ? "long" : "int",
        v->wide & CC1D_WIDE_ROWS ? "long" : "int", v->width, v->vector, v->rows, v->single);
    for (int i = 0; i < 8; i++)
        n += snprintf(text + n, size - (size_t)n, "#define %s %d\n", options[i],
                      v->options >> i & 1);
    assert(n > 0 && (size_t)n < size);
}

static int64_t reach(const tensor *t)
{
    int64_t last = 0;
    if (!cc1d_present(t) || cc1d_is_empty(t)) return 0;
    for (int i = 0; i < t->ndim; i++) last += (t->size[i] - 1) * llabs(t->stride[i]);
    return last;
}

/* Which width the offsets into these tensors need; kernels step a little beyond the ends. */
uint8_t cc1d_wide_offsets(const tensor *const *tensors, int count)
{
    for (int i = 0; i < count; i++)
        if (reach(tensors[i]) >= (INT64_C(1) << 31) - (1 << 20)) return CC1D_WIDE_OFFSETS;
    return 0;
}

/* A launch of a kernel with so many slots; each is to be set, once, by the three functions below.
 */
cc1d_launch cc1d_launch_of(cc1d_variant variant, int slot_count)
{
    assert(slot_count <= CC1D_SLOTS);
    return (cc1d_launch){.variant = variant, .slot_count = slot_count};
}

static void set_slot(cc1d_launch *l, int slot, cc1d_slot value)
{
    assert(slot < l->slot_count && !(l->slots_set >> slot & 1));
    l->slots[slot] = value;
    l->slots_set |= UINT32_C(1) << slot;
}

void cc1d_set_tensor(cc1d_launch *l, int slot, const tensor *t, const tensor *in_place_of_none)
{
    set_slot(l, slot, (cc1d_slot){cc1d_present(t) ? t : in_place_of_none, 0});
}

void cc1d_set_number(cc1d_launch *l, int slot, int64_t number)
{
    set_slot(l, slot, (cc1d_slot){NULL, number});
}

/* The strides of t's three dimensions, from the slot of the first on. */
void cc1d_set_strides(cc1d_launch *l, int slot, const tensor *t)
{
    for (int i = 0; i < 3; i++) cc1d_set_number(l, slot + i, t->stride[i]);
}

void cc1d_set_grid(cc1d_launch *l, int64_t x, int64_t y, int64_t z)
{
    l->grid[0] = (uint64_t)x, l->grid[1] = (uint64_t)y, l->grid[2] = (uint64_t)z;
}

void cc1d_set_group(cc1d_launch *l, int64_t x, int64_t y)
{
    l->group[0] = (uint64_t)x, l->group[1] = (uint64_t)y, l->group[2] = 1;
}

/* A full group over the first two dimensions of the grid, as wide as the first needs. */
void cc1d_set_flat_group(cc1d_launch *l, int64_t most)
{
    int64_t x = CC1D_SIMD, y = 1;
    while (x < most && x < (int64_t)l->grid[0]) x *= 2;
    while (x / 2 >= (int64_t)l->grid[0] && x > 1) x /= 2;
    while (x * y * 2 <= most && y < (int64_t)l->grid[1]) y *= 2;
    cc1d_set_group(l, x, y);
}

bool cc1d_has_threads(const cc1d_launch *l)
{
    return l->grid[0] > 0 && l->grid[1] > 0 && l->grid[2] > 0;
}

/* Positions in a grid have 32 bits. */
causal_conv1d_status cc1d_run_launches(const cc1d_gpu *gpu, const tensor *x,
                                       const cc1d_launch *launches, int count,
                                       causal_conv1d_error *error)
{
    for (int i = 0; i < count; i++) {
        assert(launches[i].slots_set == (UINT64_C(1) << launches[i].slot_count) - 1);
        for (int j = 0; j < 3; j++)
            if (launches[i].grid[j] > UINT32_MAX - CC1D_GROUP)
                return cc1d_fail(error, CAUSAL_CONV1D_BAD_SHAPE,
                                 "Expected sizes that a GPU's grid holds, got %llu threads along "
                                 "one dimension",
                                 (unsigned long long)launches[i].grid[j]);
    }
    return gpu->run(x, launches, count, error);
}
