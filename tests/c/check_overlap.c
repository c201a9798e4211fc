/* Whether strided tensors share memory, against a look at every byte.
 *
 * check_overlap [--seed N] [--cases N]: two random tensors of up to three dimensions and any
 * element sizes, of a few elements, or of slices of one memory. */
#include "../../src/core/dtype.h"
#include "../../src/check/overlap.h"
#include "testing.h"

typedef causal_conv1d_tensor tensor;

static uint64_t state;

static int64_t below(int64_t n)
{
    return (int64_t)(next_random(&state) % (uint64_t)n);
}

/* Bytes of memory, tensors begin in the middle. */
enum { MEMORY = 1 << 16, ELEMENTS = 6 };
static unsigned char marked[MEMORY];

/* Marks the bytes of t's elements; whether one was marked already. */
static bool mark(const tensor *t, int64_t start)
{
    const int64_t size = (int64_t)cc1d_dtype_size(t->dtype);
    int64_t n[3] = {1, 1, 1}, s[3] = {0, 0, 0};
    bool twice = false;
    for (int i = 0; i < t->ndim; i++) n[i] = t->size[i], s[i] = n[i] > 1 ? t->stride[i] : 0;
    for (int64_t i = 0; i < n[0]; i++)
        for (int64_t j = 0; j < n[1]; j++)
            for (int64_t k = 0; k < n[2]; k++)
                for (int64_t b = 0; b < size; b++) {
                    unsigned char *byte =
                        &marked[start + (i * s[0] + j * s[1] + k * s[2]) * size + b];
                    twice = twice || *byte;
                    *byte = 1;
                }
    return twice;
}

static tensor random_tensor(void)
{
    const causal_conv1d_dtype dtypes[] = {CAUSAL_CONV1D_FLOAT16, CAUSAL_CONV1D_FLOAT32,
                                          CAUSAL_CONV1D_FLOAT64};
    tensor t = {.dtype = dtypes[below(3)], .ndim = 1 + (int)below(3)};
    const int64_t farthest = below(2) ? 8 : 60;
    for (int i = 0; i < t.ndim; i++) {
        t.size[i] = 1 + below(ELEMENTS);
        t.stride[i] = below(2 * farthest + 1) - farthest;
        if (t.size[i] == 1 && below(2)) t.stride[i] = INT64_MIN; /* means nothing */
    }
    return t;
}

/* A slice of a contiguous (4, 5, 6) memory: every step-th of some indices, dimensions permuted. */
static tensor random_slice(causal_conv1d_dtype dtype, int64_t *start)
{
    tensor t = {.dtype = dtype, .ndim = 3};
    const int64_t sizes[] = {4, 5, 6}, strides[] = {30, 6, 1}, turn = below(3);
    for (int i = 0; i < 3; i++) {
        const int to = (int)((i + turn) % 3);
        const int64_t step = 1 + below(3), first = below(sizes[i]);
        const int64_t most = (sizes[i] - first - 1) / step + 1;
        t.size[to] = 1 + below(most), t.stride[to] = step * strides[i];
        *start += first * strides[i] * (int64_t)cc1d_dtype_size(dtype);
    }
    return t;
}

static void check_case(uint64_t seed)
{
    const bool slices = below(2);
    int64_t at_a = MEMORY / 2, at_b = at_a;
    tensor a, b;
    if (slices) {
        const causal_conv1d_dtype dtype = below(2) ? CAUSAL_CONV1D_FLOAT32 : CAUSAL_CONV1D_BFLOAT16;
        a = random_slice(dtype, &at_a), b = random_slice(dtype, &at_b);
    } else {
        a = random_tensor(), b = random_tensor();
        at_b += (below(121) - 60) * (int64_t)cc1d_dtype_size(b.dtype);
    }
    memset(marked, 0, sizeof marked);
    const bool itself = mark(&a, at_a);
    check(cc1d_overlaps_itself(&a) == itself, "--seed %llu: a tensor that %s itself",
          (unsigned long long)seed, itself ? "overlaps" : "does not overlap");
    if (cc1d_overlaps_itself(&b)) return; /* would look like an overlap with a */
    const bool shared = mark(&b, at_b);
    check(cc1d_overlap(&a, &b, at_b - at_a) == shared, "--seed %llu: tensors that %s",
          (unsigned long long)seed, shared ? "overlap" : "do not overlap");
    check(cc1d_overlap(&b, &a, at_a - at_b) == shared, "--seed %llu: the other way round",
          (unsigned long long)seed);
}

static tensor large(int64_t i, int64_t j, int64_t k, int64_t a, int64_t b, int64_t c)
{
    return (tensor){
        .dtype = CAUSAL_CONV1D_FLOAT32, .ndim = 3, .size = {i, j, k}, .stride = {a, b, c}};
}

/* Sizes at which nothing can be looked at byte by byte. */
static void check_large(void)
{
    const int64_t B = 1 << 20, D = 8192, L = 5;
    const tensor states = large(B, D, L - 1, D * L, L, 1), x = large(B, D, 1, D * L, L, 1);
    check(!cc1d_overlap(&states, &x, (L - 1) * 4), "the last column of a buffer");
    check(cc1d_overlap(&states, &x, (L - 2) * 4), "the last but one");
    check(!cc1d_overlaps_itself(&states), "the other columns");
    const tensor backwards = large(B, D, 1, -D * L, -L, 1);
    check(!cc1d_overlap(&states, &backwards, ((B - 1) * D * L + D * L - 1) * 4), "backwards");
    check(cc1d_overlap(&states, &backwards, ((B - 1) * D * L + D * L - 2) * 4),
          "backwards, shared");
    /* Channels-last beside channel-first in alternate elements, and 8 bytes beside 4. */
    const tensor even = large(B, D, 4, 8 * D, 2, 2 * D), odd = large(B, D, 4, 8 * D, 8, 2);
    check(!cc1d_overlap(&even, &odd, 4) && cc1d_overlap(&even, &odd, 8), "alternate elements");
    tensor doubles = large(B, D, 1, D * 2, 2, 1);
    const tensor floats = large(B, D, 1, D * 4, 4, 1);
    doubles.dtype = CAUSAL_CONV1D_FLOAT64;
    check(!cc1d_overlap(&doubles, &floats, 8) && !cc1d_overlap(&doubles, &floats, 12) &&
              cc1d_overlap(&doubles, &floats, 4) && cc1d_overlap(&doubles, &floats, 20),
          "floats beside doubles");
    const tensor entangled = large(D, D, D, 6, 10, 15);
    check(cc1d_overlaps_itself(&entangled), "entangled strides");
    /* Row 5852 of `coarse` would be the first to meet `fine` 4 elements on, 1463 at 1 element: the
     * one is farther than the search goes. */
    const tensor fine = large(1 << 20, 1, 1, 6144, 0, 0);
    tensor coarse = large(5800, 1, 1, B + 7, 0, 0);
    check(cc1d_overlap(&coarse, &fine, 16), "beyond the effort: yes");
    coarse.size[0] = 1463;
    check(!cc1d_overlap(&coarse, &fine, 4), "rows 0 to 1462");
    coarse.size[0] = 1464;
    check(cc1d_overlap(&coarse, &fine, 4), "row 1463");
    const tensor far = large(2, 2, 2, INT64_MAX / 16, INT64_MAX / 32, 1);
    check(cc1d_overlap(&far, &far, 0) && !cc1d_overlaps_itself(&far), "the largest strides");
    check(!cc1d_overlap(&far, &far, 8), "the same, beside each other");
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int64_t cases = 1000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--cases") == 0) cases = atoll(argv[i + 1]);
    }
    for (uint64_t s = seed; s < seed + (uint64_t)cases; s++) {
        state = s;
        for (int i = 0; i < 20; i++) check_case(s);
    }
    check_large();
    return report();
}
