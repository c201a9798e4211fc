/* How far the kernels are from what memory allows: a call from C on one thread, out given, against
 * memcpy of x into out and, for the backward, against a triad that reads x and dout and writes dx.
 *
 *     bench_kernels [--rounds 30] [--shape B D T]
 *
 * In each round every contender is timed once; tables show the minimum and, in brackets, the median
 * over the rounds, as times of the floor's. */
#define _DEFAULT_SOURCE
#include "testing.h"

#include <time.h>

typedef causal_conv1d_tensor tensor;

enum { ROUNDS_MAX = 1000, WIDTH = 4 };
enum contender { COPY, FORWARD, FORWARD_SILU, TRIAD, BACKWARD, BACKWARD_SILU, CONTENDERS };
static const char *const titles[] = {"memcpy us", "forward",  "with SiLU",
                                     "triad us",  "backward", "with SiLU"};

typedef struct problem {
    causal_conv1d_forward_args forward;
    causal_conv1d_backward_args backward;
    size_t bytes; /* of x */
} problem;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void must(causal_conv1d_status status, const causal_conv1d_error *error)
{
    if (!status) return;
    fprintf(stderr, "%s\n", error->message);
    exit(1);
}

static tensor random_tensor(causal_conv1d_dtype dtype, int ndim, int64_t a, int64_t b, int64_t c)
{
    static uint64_t state = 1;
    const int size = element_size(dtype);
    const int64_t n = a * b * c;
    tensor t = {.dtype = dtype, .ndim = ndim, .size = {a, b, c}, .stride = {b * c, c, 1}};
    t.data = aligned_alloc(64, (size_t)(n * size + 63) / 64 * 64);
    if (!t.data) abort();
    for (int64_t i = 0; i < n; i++) {
        double v = (double)(int64_t)(next_random(&state) % 4001 - 2000) / 1000;
        uint64_t bits = encode(dtype, v);
        memcpy((char *)t.data + i * size, &bits, (size_t)size);
    }
    return t;
}

/* dx = x + dout as far as memory is concerned: whatever the dtype, 8 bytes at a time. */
static void triad(const problem *p)
{
    const uint64_t *x = p->backward.x.data, *dout = p->backward.dout.data;
    uint64_t *dx = p->backward.dx.data;
    for (size_t i = 0; i < p->bytes / 8; i++) dx[i] = x[i] + dout[i];
}

static void run(problem *p, enum contender which)
{
    causal_conv1d_error error;
    p->forward.silu = which == FORWARD_SILU, p->backward.silu = which == BACKWARD_SILU;
    if (which == COPY)
        memcpy(p->forward.out.data, p->forward.x.data, p->bytes);
    else if (which == TRIAD)
        triad(p);
    else if (which <= FORWARD_SILU)
        must(causal_conv1d_forward(&p->forward, NULL, &error), &error);
    else
        must(causal_conv1d_backward(&p->backward, NULL, &error), &error);
    __asm__ volatile("" : : : "memory"); /* what is never read is not optimised away */
}

/* Seconds per call of a batch that is long enough for the clock. */
static double time_batch(problem *p, enum contender which, int repeats)
{
    double start = seconds();
    for (int i = 0; i < repeats; i++) run(p, which);
    return (seconds() - start) / repeats;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(problem *p, int rounds)
{
    static double samples[CONTENDERS][ROUNDS_MAX];
    int repeats[CONTENDERS];
    for (int i = 0; i < CONTENDERS; i++)
        for (repeats[i] = 1; time_batch(p, i, repeats[i]) * repeats[i] < 1e-3;) repeats[i] *= 2;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < CONTENDERS; i++) {
            int which = (i + round) % CONTENDERS;
            samples[which][round] = time_batch(p, which, repeats[which]);
        }
    for (int i = 0; i < CONTENDERS; i++) qsort(samples[i], (size_t)rounds, sizeof(double), compare);
    for (int i = 0; i < CONTENDERS; i++) {
        const int floor = i < TRIAD ? COPY : TRIAD, middle = rounds / 2;
        if (i == floor)
            printf("%16.1f", 1e6 * samples[i][0]);
        else
            printf("  %5.2f (%5.2f)", samples[i][0] / samples[floor][0],
                   samples[i][middle] / samples[floor][middle]);
    }
    printf("\n");
    fflush(stdout);
}

static void bench(const int64_t *shape, causal_conv1d_dtype dtype, bool channels_last, int rounds)
{
    const int64_t batch = shape[0], dim = shape[1], seqlen = shape[2];
    const tensor x = random_tensor(dtype, 3, batch, dim, seqlen),
                 weight = random_tensor(dtype, 2, dim, WIDTH, 1),
                 bias = random_tensor(dtype, 1, dim, 1, 1);
    problem p = {.bytes = (size_t)(batch * dim * seqlen * element_size(dtype))};
    p.forward = (causal_conv1d_forward_args){.x = x, .weight = weight, .bias = bias};
    p.forward.weight.stride[0] = WIDTH, p.forward.weight.stride[1] = 1;
    p.forward.bias.stride[0] = 1;
    if (channels_last) p.forward.x.stride[1] = 1, p.forward.x.stride[2] = dim;
    p.backward = (causal_conv1d_backward_args){
        .x = p.forward.x, .weight = p.forward.weight, .bias = p.forward.bias};
    tensor *const like_x[] = {&p.forward.out, &p.backward.dout, &p.backward.dx};
    for (int i = 0; i < 3; i++) {
        *like_x[i] = p.forward.x;
        like_x[i]->data = random_tensor(dtype, 3, batch, dim, seqlen).data;
    }
    p.backward.dweight = p.forward.weight, p.backward.dbias = p.forward.bias;
    p.backward.dweight.data = random_tensor(dtype, 2, dim, WIDTH, 1).data;
    p.backward.dbias.data = random_tensor(dtype, 1, dim, 1, 1).data;

    char name[64];
    snprintf(name, sizeof name, "%lldx%lldx%lld %s%s", (long long)batch, (long long)dim,
             (long long)seqlen, dtype_name(dtype), channels_last ? " ch-last" : "");
    printf("%-26s", name);
    measure(&p, rounds);
    for (int i = 0; i < 3; i++) free(like_x[i]->data);
    free(x.data), free(weight.data), free(bias.data);
    free(p.backward.dweight.data), free(p.backward.dbias.data);
}

int main(int argc, char **argv)
{
    int64_t shapes[][3] = {{2, 128, 256}, {4, 256, 512}, {1, 2048, 2048}, {8, 4096, 2048}};
    int n_shapes = 4, rounds = 30;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--rounds") && i + 1 < argc) {
            rounds = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--shape") && i + 3 < argc) {
            for (int j = 0; j < 3; j++) shapes[0][j] = atoll(argv[++i]);
            n_shapes = 1;
        } else {
            fprintf(stderr, "usage: bench_kernels [--rounds N] [--shape B D T]\n");
            return 2;
        }
    }
    if (rounds < 1 || rounds > ROUNDS_MAX) rounds = ROUNDS_MAX;
    printf("%s, width %d, one thread, %d rounds\n%-26s", causal_conv1d_isa(), WIDTH, rounds, "");
    for (int i = 0; i < CONTENDERS; i++) printf(i % TRIAD == COPY ? "%16s" : "  %13s", titles[i]);
    printf("\n");
    for (int i = 0; i < n_shapes; i++)
        for (causal_conv1d_dtype dtype = CAUSAL_CONV1D_FLOAT32; dtype <= CAUSAL_CONV1D_BFLOAT16;
             dtype++)
            for (int last = 0; last < 2; last++) bench(shapes[i], dtype, last, rounds);
    return 0;
}
