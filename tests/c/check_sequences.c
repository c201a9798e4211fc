/* Sequences, states and updates: every ISA against the scalar code.
 *
 * check_sequences [--seed N] [--cases N]: random seq_idx, packed sequences, initial and final
 * states, rings and pools. Buffers are malloc'ed to the byte, so that AddressSanitizer sees any
 * access outside. Without SiLU the forward must have the same bits; all else is compared with a
 * tolerance, since tests/test_sequences.py compares the scalar code and the ISAs with float64. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../../src/check/check.h"
#include "../../src/core/tensor.h"
#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"
#include "testing.h"

typedef causal_conv1d_tensor tensor;

static uint64_t state;

static int64_t below(int64_t n)
{
    return n > 0 ? (int64_t)(next_random(&state) % (uint64_t)n) : 0;
}

/* A tensor with memory of its own: dimension `first` has stride 1, the others follow. */
static tensor make(causal_conv1d_dtype dtype, int ndim, int64_t a, int64_t b, int64_t c, int first)
{
    tensor t = {.dtype = dtype, .ndim = ndim, .size = {a, b, c}};
    int64_t step = 1, n = 1;
    for (int i = 0, d = first; i < ndim; i++, d = d == 0 ? ndim - 1 : d - 1) {
        t.stride[d] = step;
        step *= t.size[d];
        n *= t.size[d];
    }
    t.data = malloc((size_t)n * cc1d_dtype_size(dtype) + (n == 0));
    if (!t.data) abort();
    return t;
}

static int64_t count(const tensor *t)
{
    int64_t n = t->dtype ? 1 : 0;
    for (int i = 0; i < t->ndim; i++) n *= t->size[i];
    return n;
}

/* Memory is dense, so that an element's place in it serves as its index. */
static void fill(tensor *t)
{
    for (int64_t i = 0; i < count(t); i++)
        cc1d_store(t->data, t->dtype, i, (double)(below(4001) - 2000) / 1000);
}

static void set_index(tensor *t, int64_t i, int64_t value)
{
    if (t->dtype == CAUSAL_CONV1D_INT32)
        ((int32_t *)t->data)[i] = (int32_t)value;
    else
        ((int64_t *)t->data)[i] = value;
}

static tensor copy(const tensor *t)
{
    tensor c = *t;
    size_t bytes = (size_t)count(t) * cc1d_dtype_size(t->dtype);
    if (!t->dtype) return c;
    c.data = malloc(bytes + (bytes == 0));
    if (!c.data) abort();
    memcpy(c.data, t->data, bytes);
    return c;
}

/* What one ISA and the scalar code made of the same call. */
static void compare(const char *what, const tensor *got, const tensor *expected, bool exact,
                    uint64_t seed, const char *isa)
{
    const double unit = got->dtype == CAUSAL_CONV1D_FLOAT16    ? 0x1p-10
                        : got->dtype == CAUSAL_CONV1D_BFLOAT16 ? 0x1p-7
                        : got->dtype == CAUSAL_CONV1D_FLOAT64  ? 0x1p-47
                                                               : 0x1p-18;
    double worst = 0;
    for (int64_t i = 0; i < count(got); i++) {
        double a = cc1d_load(got->data, got->dtype, i);
        double b = cc1d_load(expected->data, expected->dtype, i);
        double limit = exact ? 0 : unit * (4 + fabs(b));
        if (!(fabs(a - b) <= limit) && fabs(a - b) > worst) worst = fabs(a - b);
        if (isnan(a) != isnan(b)) worst = INFINITY;
    }
    check(worst == 0, "--seed %llu --cases 1: %s of %s is off by %g", (unsigned long long)seed,
          what, isa, worst);
}

static causal_conv1d_dtype random_dtype(void)
{
    return (causal_conv1d_dtype)(CAUSAL_CONV1D_FLOAT32 + below(4));
}

static causal_conv1d_dtype index_dtype(void)
{
    return below(2) ? CAUSAL_CONV1D_INT32 : CAUSAL_CONV1D_INT64;
}

/* Forward and backward of one random call with sequences. */
static void check_call(uint64_t seed, const cc1d_isa *isa, const cc1d_isa *scalar)
{
    const causal_conv1d_dtype dtype = random_dtype();
    const int64_t W = 1 + below(9), D = 1 + below(below(4) ? 40 : 300);
    const bool packed = below(2), ids = !packed && below(2);
    int64_t B = packed ? 1 : 1 + below(3), T = below(5) ? below(90) : below(700), N = B;
    const int first = 1 + (int)below(2);
    causal_conv1d_forward_args f = {.silu = below(2)};
    if (packed) {
        N = below(6);
        f.cu_seqlens = make(index_dtype(), 1, N + 1, 1, 1, 0);
        T = 0;
        set_index(&f.cu_seqlens, 0, 0);
        for (int64_t n = 1; n <= N; n++)
            set_index(&f.cu_seqlens, n, T += below(4) ? below(40) : below(500));
        if (below(2)) T += below(200); /* padding */
    }
    if (ids) {
        f.seq_idx = make(index_dtype(), 2, B, T, 1, 1);
        for (int64_t i = 0, id = 0; i < B * T; i++) {
            if (below(8) == 0) id = below(4) - 1;
            set_index(&f.seq_idx, i, id);
        }
    }
    f.x = make(dtype, 3, B, D, T, first), f.out = make(dtype, 3, B, D, T, first);
    f.weight = make(random_dtype(), 2, D, W, 1, 1);
    fill(&f.x), fill(&f.weight);
    if (below(2)) f.bias = make(random_dtype(), 1, D, 1, 1, 0), fill(&f.bias);
    if (below(3)) {
        f.initial_states = make(dtype, 3, N, D, W - 1, 1 + (int)below(2));
        fill(&f.initial_states);
    }
    if (!ids) f.final_states = make(dtype, 3, N, D, W - 1, 1 + (int)below(2));
    causal_conv1d_error error = {""};
    check(!cc1d_check_forward(&f, &error), "--seed %llu: %s", (unsigned long long)seed,
          error.message);

    causal_conv1d_forward_args g = f;
    g.out = copy(&f.out), g.final_states = copy(&f.final_states);
    check(!cc1d_cpu_forward(isa, &f, false, NULL) && !cc1d_cpu_forward(scalar, &g, false, NULL),
          "no memory");
    compare("out", &f.out, &g.out, !f.silu, seed, isa->name);
    compare("final_states", &f.final_states, &g.final_states, true, seed, isa->name);

    causal_conv1d_backward_args b = {.x = f.x,
                                     .weight = f.weight,
                                     .bias = f.bias,
                                     .seq_idx = f.seq_idx,
                                     .cu_seqlens = f.cu_seqlens,
                                     .initial_states = f.initial_states,
                                     .silu = f.silu};
    b.dout = make(dtype, 3, B, D, T, first), b.dx = make(dtype, 3, B, D, T, first);
    b.dweight = make(CAUSAL_CONV1D_FLOAT64, 2, D, W, 1, 1);
    b.dbias = make(CAUSAL_CONV1D_FLOAT64, 1, D, 1, 1, 0);
    fill(&b.dout);
    if (!ids && below(2)) b.dfinal_states = copy(&f.final_states), fill(&b.dfinal_states);
    if (f.initial_states.dtype) b.dinitial_states = copy(&f.initial_states);
    check(!cc1d_check_backward(&b, &error), "--seed %llu: %s", (unsigned long long)seed,
          error.message);
    causal_conv1d_backward_args c = b;
    c.dx = copy(&b.dx), c.dweight = copy(&b.dweight), c.dbias = copy(&b.dbias);
    c.dinitial_states = copy(&b.dinitial_states);
    check(!cc1d_cpu_backward(isa, &b, NULL) && !cc1d_cpu_backward(scalar, &c, NULL), "no memory");
    compare("dx", &b.dx, &c.dx, false, seed, isa->name);
    compare("dinitial_states", &b.dinitial_states, &c.dinitial_states, false, seed, isa->name);
    /* fp32 sums over up to 2,100 terms of size 4: compared as fp32 with some of their bits */
    tensor *sums[] = {&b.dweight, &b.dbias, &c.dweight, &c.dbias};
    for (int i = 0; i < 4; i++)
        for (int64_t j = 0; j < count(sums[i]); j++) {
            double v = cc1d_load(sums[i]->data, CAUSAL_CONV1D_FLOAT64, j);
            ((float *)sums[i]->data)[j] = (float)(v / 64);
        }
    for (int i = 0; i < 4; i++) sums[i]->dtype = CAUSAL_CONV1D_FLOAT32;
    compare("dweight", &b.dweight, &c.dweight, false, seed, isa->name);
    compare("dbias", &b.dbias, &c.dbias, false, seed, isa->name);

    void *const memory[] = {
        f.x.data,       f.out.data,          f.weight.data,         f.bias.data,
        f.seq_idx.data, f.cu_seqlens.data,   f.initial_states.data, f.final_states.data,
        g.out.data,     g.final_states.data, b.dout.data,           b.dx.data,
        b.dweight.data, b.dbias.data,        b.dfinal_states.data,  b.dinitial_states.data,
        c.dx.data,      c.dweight.data,      c.dbias.data,          c.dinitial_states.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
}

static void check_update(uint64_t seed, const cc1d_isa *isa, const cc1d_isa *scalar)
{
    const causal_conv1d_dtype dtype = random_dtype();
    const int64_t W = below(2) ? 4 : 1 + below(9), B = 1 + below(3), P = B + 2;
    const int64_t D = 1 + below(below(4) ? 70 : 300), T = below(2) ? 1 : below(12);
    const int64_t L = W - 1 + (below(2) ? 1 : below(4));
    const bool pool = below(2);
    causal_conv1d_update_args u = {.silu = below(2)};
    u.x = make(dtype, 3, B, D, T, 1 + (int)below(2));
    u.out = make(dtype, 3, B, D, T, u.x.stride[1] == 1 ? 1 : 2);
    u.conv_state = make(dtype, 3, pool ? P : B, D, L, below(4) ? 2 : 1);
    u.weight = make(random_dtype(), 2, D, W, 1, below(4) ? 1 : 0);
    fill(&u.x), fill(&u.conv_state), fill(&u.weight);
    if (below(2)) u.bias = make(random_dtype(), 1, D, 1, 1, 0), fill(&u.bias);
    if (pool) {
        u.conv_state_indices = make(index_dtype(), 1, B, 1, 1, 0);
        for (int64_t b = 0; b < B; b++)
            set_index(&u.conv_state_indices, b, below(4) ? P - 1 - b : -1);
    }
    if (L > 0 && below(3) == 0) {
        u.cache_seqlens = make(index_dtype(), 1, B, 1, 1, 0);
        for (int64_t b = 0; b < B; b++) set_index(&u.cache_seqlens, b, below(50));
    }
    causal_conv1d_error error = {""};
    check(!cc1d_check_update(&u, &error), "--seed %llu: %s", (unsigned long long)seed,
          error.message);
    causal_conv1d_update_args v = u;
    v.out = copy(&u.out), v.conv_state = copy(&u.conv_state);
    check(!cc1d_cpu_update(isa, &u, NULL) && !cc1d_cpu_update(scalar, &v, NULL), "no memory");
    compare("update's out", &u.out, &v.out, !u.silu, seed, isa->name);
    compare("conv_state", &u.conv_state, &v.conv_state, true, seed, isa->name);
    void *const memory[] = {u.x.data,
                            u.out.data,
                            u.conv_state.data,
                            u.weight.data,
                            u.bias.data,
                            u.conv_state_indices.data,
                            u.cache_seqlens.data,
                            v.out.data,
                            v.conv_state.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int64_t cases = 1000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--cases") == 0) cases = atoll(argv[i + 1]);
    }
    const uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
    const cc1d_isa *scalar = NULL;
    for (int i = 0; cc1d_isas[i]; i++) scalar = cc1d_isas[i];
    for (uint64_t s = seed; s < seed + (uint64_t)cases; s++)
        for (int i = 0; cc1d_isas[i]; i++) {
            if (cc1d_isas[i]->features & ~have) continue;
            state = s;
            check_call(s, cc1d_isas[i], scalar);
            check_update(s, cc1d_isas[i], scalar);
        }
    return report();
}
