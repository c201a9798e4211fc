/* What calls become on a GPU, without one: launches are recorded and looked at.
 *
 * check_plans [--seed N] [--cases N]: random calls with any sizes, strides and options. */
#define _DEFAULT_SOURCE /* MAP_ANON */
#include "../../src/gpu/plan.h"
#include "../../src/core/arithmetic.h"
#include "tensors.h"

enum { MOST = 4 };
static cc1d_launch launches[MOST];
static int launch_count, allocated, released;
static int64_t partial_size;
static bool no_memory;
static char memory[1]; /* tensors are never read */

static causal_conv1d_status record(const causal_conv1d_tensor *x, const cc1d_launch *l, int n,
                                   causal_conv1d_error *error)
{
    (void)x, (void)error;
    launch_count = n;
    memcpy(launches, l, (size_t)n * sizeof *l);
    return CAUSAL_CONV1D_OK;
}

static causal_conv1d_status allocate(const tensor *x, int64_t n, tensor *t,
                                     causal_conv1d_error *error)
{
    (void)error;
    if (no_memory) return CAUSAL_CONV1D_OUT_OF_MEMORY;
    allocated++;
    partial_size = n;
    *t = (tensor){memory, CAUSAL_CONV1D_FLOAT32, x->device, 0, 1, {n}, {1}, NULL};
    return CAUSAL_CONV1D_OK;
}

static void release(tensor *t)
{
    released++;
    t->data = NULL;
}

static const cc1d_workspace workspace = {allocate, release};

/* A tensor in a place of its own, mostly on 16 bytes. */
static tensor any_tensor(causal_conv1d_dtype dtype, int ndim, int64_t i, int64_t j, int64_t k,
                         layout layout, bool input)
{
    static uintptr_t place;
    tensor t = {.dtype = dtype, .device = CAUSAL_CONV1D_MPS, .ndim = ndim, .size = {i, j, k}};
    lay_out(&t, layout, input);
    place += (uintptr_t)1 << 40;
    t.data = (void *)(place + (uintptr_t)(chance(8) ? element_size(dtype) : 0));
    return t;
}

/* ---- What must hold of any launch ---- */

/* The slots that a kernel writes to, as a bit each. */
static uint32_t written(const cc1d_variant *v)
{
#define BIT(slot) (UINT32_C(1) << (slot))
    const bool final = v->options & CC1D_FINAL, bias = v->options & CC1D_HAS_BIAS;
    switch (v->kernel) {
    case CC1D_FORWARD_TIME:
    case CC1D_FORWARD_DIM:
    case CC1D_FORWARD_WIDE_TIME:
    case CC1D_FORWARD_WIDE_DIM:
        return BIT(CC1D_FORWARD_out) | (final ? BIT(CC1D_FORWARD_final_states) : 0);
    case CC1D_SUMS_ANY_WIDTH: return BIT(CC1D_BACKWARD_partial);
    case CC1D_BACKWARD_ANY_WIDTH:
    case CC1D_BACKWARD_STATES: return BIT(CC1D_BACKWARD_dx);
    case CC1D_BACKWARD_TIME:
    case CC1D_BACKWARD_DIM: return BIT(CC1D_BACKWARD_dx) | BIT(CC1D_BACKWARD_partial);
    case CC1D_REDUCE: return BIT(CC1D_REDUCE_dweight) | (bias ? BIT(CC1D_REDUCE_dbias) : 0);
    case CC1D_STATES: return BIT(CC1D_STATES_states);
    default: return BIT(CC1D_UPDATE_state) | BIT(CC1D_UPDATE_out);
    }
}

static int slots_of(const cc1d_variant *v)
{
    switch (v->kernel) {
    case CC1D_FORWARD_TIME:
    case CC1D_FORWARD_DIM:
    case CC1D_FORWARD_WIDE_TIME:
    case CC1D_FORWARD_WIDE_DIM: return CC1D_FORWARD_SLOT_COUNT;
    case CC1D_REDUCE: return CC1D_REDUCE_SLOT_COUNT;
    case CC1D_STATES: return CC1D_STATES_SLOT_COUNT;
    case CC1D_UPDATE: return CC1D_UPDATE_SLOT_COUNT;
    default: return CC1D_BACKWARD_SLOT_COUNT;
    }
}

static void check_launch(const cc1d_launch *l, const char *call)
{
    const char *name = cc1d_kernel_name(&l->variant);
    check(l->slot_count == slots_of(&l->variant), "%s: %s has %d slots", call, name, l->slot_count);
    check(l->slots_set == (UINT64_C(1) << l->slot_count) - 1, "%s: %s has slots %x set", call, name,
          (unsigned)l->slots_set);
    const uint64_t group = l->group[0] * l->group[1] * l->group[2];
    check(group > 0 && group <= CC1D_GROUP, "%s: %s has groups of %llu threads", call, name,
          (unsigned long long)group);
    for (int i = 0; i < 3; i++)
        check(l->grid[i] > 0 && l->grid[i] <= UINT32_MAX, "%s: %s has a grid of %llu", call, name,
              (unsigned long long)l->grid[i]);
    bool far = false;
    for (int i = 0; i < l->slot_count; i++) {
        const tensor *t = l->slots[i].tensor;
        if (!t) continue;
        int64_t reach = 0;
        for (int j = 0; j < t->ndim; j++)
            if (t->size[j] > 0) reach += (t->size[j] - 1) * llabs(t->stride[j]);
        far = far || (reach >> 31 && count(t) > 0);
        /* Apple's compiler assumes that memory which is written has one name. */
        if (written(&l->variant) >> i & 1)
            for (int j = 0; j < l->slot_count; j++)
                check(j == i || !l->slots[j].tensor || l->slots[j].tensor->data != t->data,
                      "%s: %s writes slot %d, which slot %d has too", call, name, i, j);
    }
    check(!far || l->variant.wide & CC1D_WIDE_OFFSETS, "%s: %s has offsets of 32 bits", call, name);
}

/* Whether vectors of the variant lie on their size in t along dimension `fast`. */
static bool takes_vectors(const cc1d_launch *l, const tensor *t, int fast)
{
    const int64_t n = l->variant.vector;
    bool takes = n == 1 || (t->stride[fast] == 1 && t->size[fast] % n == 0 &&
                            (intptr_t)t->data % (n * element_size(t->dtype)) == 0);
    for (int i = 0; i < 3; i++)
        takes = takes && (n == 1 || i == fast || t->size[i] == 1 || t->stride[i] % n == 0);
    return takes;
}

/* ---- Calls ---- */

typedef struct sizes {
    int64_t batch, dim, seqlen, width, sequences;
    bool packed, seq_idx;
    layout layout;
    causal_conv1d_dtype dtype;
} sizes;

static sizes any_sizes(void)
{
    sizes s = {1 + below(5), 1 + below(300), 1 + below(3000),  1 + below(12),   0,
               chance(3),    false,          (layout)below(3), dtypes[below(3)]};
    if (chance(10)) s.width = 250 + below(12);
    if (chance(4)) s.dim = 32 * (1 + below(64)), s.seqlen = 512 * (1 + below(16));
    if (chance(30)) s.seqlen = (int64_t)1 << 31, s.dim = 1 + below(8);
    s.seq_idx = !s.packed && chance(3);
    if (s.packed) s.batch = 1;
    s.sequences = s.packed ? 1 + below(9) : s.batch;
    return s;
}

static causal_conv1d_forward_args any_forward(const sizes *s)
{
    causal_conv1d_forward_args a = {.silu = chance(2)};
    a.x = any_tensor(s->dtype, 3, s->batch, s->dim, s->seqlen, s->layout, true);
    a.out = any_tensor(s->dtype, 3, s->batch, s->dim, s->seqlen, s->layout, false);
    a.weight = any_tensor(dtypes[below(3)], 2, s->dim, s->width, 1, TIME, false);
    if (chance(2)) a.bias = any_tensor(dtypes[below(3)], 1, s->dim, 1, 1, ANY, true);
    if (s->seq_idx)
        a.seq_idx = any_tensor(CAUSAL_CONV1D_INT32, 2, s->batch, s->seqlen, 1, ANY, true);
    if (s->packed)
        a.cu_seqlens = any_tensor(CAUSAL_CONV1D_INT64, 1, s->sequences + 1, 1, 1, ANY, true);
    if (chance(2))
        a.initial_states = any_tensor(s->dtype, 3, s->sequences, s->dim, s->width - 1, ANY, true);
    if (!s->seq_idx && chance(2))
        a.final_states =
            a.initial_states.dtype && chance(2)
                ? a.initial_states
                : any_tensor(s->dtype, 3, s->sequences, s->dim, s->width - 1, ANY, false);
    return a;
}

static int64_t number(const cc1d_launch *l, int slot)
{
    return l->slots[slot].number;
}

static void check_forward(const cc1d_gpu *gpu)
{
    const sizes s = any_sizes();
    const causal_conv1d_forward_args a = any_forward(&s);
    causal_conv1d_error error;
    launch_count = 0;
    if (cc1d_gpu_forward(gpu, &a, &error) != CAUSAL_CONV1D_OK) {
        check(false, "forward: %s", error.message);
        return;
    }
    check(launch_count == 1 || launch_count == 2, "forward: %d launches", launch_count);
    for (int i = 0; i < launch_count; i++)
        if (launches[i].grid[0] > 0) check_launch(&launches[i], "forward");
    const cc1d_launch *l = &launches[0];
    const cc1d_variant *v = &l->variant;
    const bool along_dim = v->kernel == CC1D_FORWARD_DIM || v->kernel == CC1D_FORWARD_WIDE_DIM;
    const bool wide = v->kernel == CC1D_FORWARD_WIDE_TIME || v->kernel == CC1D_FORWARD_WIDE_DIM;
    const int64_t per = wide && !along_dim ? CC1D_WIDE_TIMES : v->vector;
    const int64_t run = number(l, CC1D_FORWARD_run) / (wide ? CC1D_WIDE_DIM_SIMDS : 1);
    /* Whole groups, or SIMD groups at least. */
    const int64_t spare_first = wide ? per * CC1D_SIMD : 1;
    const int64_t spare_second = wide && along_dim ? run * CC1D_WIDE_DIM_SIMDS
                                 : along_dim       ? run
                                                   : 1;
    check(takes_vectors(l, &a.x, along_dim ? 1 : 2) && takes_vectors(l, &a.out, along_dim ? 1 : 2),
          "forward: vectors of %d", v->vector);
    const int64_t first = (int64_t)l->grid[0] * per * (along_dim ? 1 : v->rows);
    const int64_t second = (int64_t)l->grid[1] * (along_dim ? run : 1);
    const int64_t most_first = along_dim ? s.dim : s.seqlen;
    const int64_t most_second = along_dim ? s.seqlen : s.dim;
    check(first >= most_first && first - spare_first < most_first,
          "forward: %lld in the first dimension", (long long)first);
    check(second >= most_second && second - spare_second < most_second,
          "forward: %lld in the second dimension", (long long)second);
    check(wide == (s.width > CC1D_GPU_MAX_WIDTH && s.width <= CC1D_GPU_WIDE_WIDTH),
          "forward: %s at width %lld", cc1d_kernel_name(v), (long long)s.width);
    check((int64_t)l->grid[2] == s.batch, "forward: a batch of %lld", (long long)l->grid[2]);
    check(!s.packed || !(v->options & CC1D_FINAL), "forward: a row's end is no sequence's");
    /* Final states are written once: by the end of a row, or by a launch of their own. */
    check(
        (v->options & CC1D_FINAL ? 1 : 0) + (launch_count == 2) <= 1 &&
            (!a.final_states.dtype || s.width == 1 || launch_count == 2 || v->options & CC1D_FINAL),
        "forward: final states are written never or twice");
}

static void check_backward(const cc1d_gpu *gpu)
{
    const sizes s = any_sizes();
    const causal_conv1d_forward_args f = any_forward(&s);
    causal_conv1d_backward_args a = {.x = f.x,
                                     .weight = f.weight,
                                     .bias = f.bias,
                                     .seq_idx = f.seq_idx,
                                     .cu_seqlens = f.cu_seqlens,
                                     .initial_states = f.initial_states,
                                     .silu = f.silu};
    a.dout = any_tensor(s.dtype, 3, s.batch, s.dim, s.seqlen, s.layout, true);
    a.dx = f.out;
    a.dweight = any_tensor(dtypes[below(3)], 2, s.dim, s.width, 1, ANY, false);
    if (a.bias.dtype) a.dbias = any_tensor(dtypes[below(3)], 1, s.dim, 1, 1, ANY, false);
    if (chance(2) && !s.seq_idx)
        a.dfinal_states = any_tensor(s.dtype, 3, s.sequences, s.dim, s.width - 1, ANY, true);
    if (a.initial_states.dtype)
        a.dinitial_states = any_tensor(s.dtype, 3, s.sequences, s.dim, s.width - 1, ANY, false);
    causal_conv1d_error error;
    launch_count = allocated = released = 0;
    no_memory = chance(10);
    const causal_conv1d_status status = cc1d_gpu_backward(gpu, &a, &workspace, &error);
    check(allocated == released, "backward: %d allocated, %d released", allocated, released);
    if (no_memory) {
        check(status == CAUSAL_CONV1D_OUT_OF_MEMORY && launch_count == 0,
              "backward without memory: status %d, %d launches", status, launch_count);
        return;
    }
    if (status != CAUSAL_CONV1D_OK) {
        check(false, "backward: %s", error.message);
        return;
    }
    for (int i = 0; i < launch_count; i++) check_launch(&launches[i], "backward");
    const cc1d_launch *last = &launches[launch_count - 1], *l = &launches[0];
    const int64_t parts = number(last, CC1D_REDUCE_parts), run = number(l, CC1D_BACKWARD_run);
    const bool along_dim = l->variant.kernel == CC1D_BACKWARD_DIM;
    const int64_t slices = along_dim ? CC1D_REDUCE_SLICES : 1;
    check(last->variant.kernel == CC1D_REDUCE, "backward ends by %s",
          cc1d_kernel_name(&last->variant));
    check(partial_size == parts * (s.width + 1) * s.dim, "backward: %lld partial sums",
          (long long)partial_size);
    check(parts == s.batch * ceil_div(ceil_div(s.seqlen, run), slices), "backward: %lld parts",
          (long long)parts);
    const int fast = along_dim ? 1 : 2;
    check(takes_vectors(l, &a.x, fast) && takes_vectors(l, &a.dout, fast) &&
              takes_vectors(l, &a.dx, fast),
          "backward: vectors of %d", l->variant.vector);
    bool states = false;
    for (int i = 0; i < launch_count; i++)
        states = states || launches[i].variant.kernel == CC1D_BACKWARD_STATES;
    check(states == (a.dinitial_states.dtype && s.width > 1),
          "backward: the gradient of the initial states is %s", states ? "made" : "forgotten");
}

static void check_update(const cc1d_gpu *gpu)
{
    sizes s = any_sizes();
    if (chance(2)) s.seqlen = 1;
    const int64_t columns = s.width - 1 + below(4), pool = s.batch + below(4);
    causal_conv1d_update_args a = {.silu = chance(2)};
    a.x = any_tensor(s.dtype, 3, s.batch, s.dim, s.seqlen, s.layout, true);
    a.out = any_tensor(s.dtype, 3, s.batch, s.dim, s.seqlen, s.layout, false);
    a.conv_state = any_tensor(s.dtype, 3, pool, s.dim, columns, s.layout, false);
    a.weight = any_tensor(dtypes[below(3)], 2, s.dim, s.width, 1, TIME, false);
    if (chance(2)) a.bias = any_tensor(dtypes[below(3)], 1, s.dim, 1, 1, ANY, true);
    if (chance(3)) a.cache_seqlens = any_tensor(CAUSAL_CONV1D_INT32, 1, s.batch, 1, 1, ANY, true);
    if (chance(3))
        a.conv_state_indices = any_tensor(CAUSAL_CONV1D_INT64, 1, s.batch, 1, 1, ANY, true);
    causal_conv1d_error error;
    launch_count = 0;
    const causal_conv1d_status status = cc1d_gpu_update(gpu, &a, &error);
    check(status == CAUSAL_CONV1D_OK && launch_count == 1, "update: status %d, %d launches", status,
          launch_count);
    check_launch(&launches[0], "update");
    check((int64_t)launches[0].grid[0] == s.dim && (int64_t)launches[0].grid[1] == s.batch,
          "update: a grid of %lld, %lld", (long long)launches[0].grid[0],
          (long long)launches[0].grid[1]);
}

/* Nothing is launched for a grid that has more threads than 32 bits count. */
static void check_too_large(const cc1d_gpu *gpu)
{
    const sizes s = {1, 1, INT64_C(1) << 33, 4, 1, false, false, TIME, CAUSAL_CONV1D_FLOAT32};
    causal_conv1d_forward_args a = {.silu = true};
    a.x = any_tensor(s.dtype, 3, 1, 1, s.seqlen, TIME, true);
    a.x.stride[2] = 2; /* single elements */
    a.out = any_tensor(s.dtype, 3, 1, 1, s.seqlen, TIME, false);
    a.weight = any_tensor(s.dtype, 2, 1, s.width, 1, TIME, false);
    causal_conv1d_error error;
    launch_count = -1;
    const causal_conv1d_status status = cc1d_gpu_forward(gpu, &a, &error);
    check(status == CAUSAL_CONV1D_BAD_SHAPE && launch_count == -1,
          "2^33 threads: status %d, %d launches", status, launch_count);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    long cases = 3000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], NULL, 0);
        if (!strcmp(argv[i], "--cases")) cases = strtol(argv[i + 1], NULL, 0);
    }
    const cc1d_gpu gpus[] = {{record, cc1d_metal.tuning}, {record, cc1d_cuda.tuning}};
    for (long i = 0; i < cases && results.failed == 0; i++) {
        const cc1d_gpu *gpu = &gpus[i % 2];
        random_state = seed + (uint64_t)i;
        check_forward(gpu);
        check_backward(gpu);
        check_update(gpu);
        check_too_large(gpu);
        if (results.failed)
            printf("replay: --seed %llu --cases 1\n", (unsigned long long)(seed + (uint64_t)i));
    }
    return report();
}
