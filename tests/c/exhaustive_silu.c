/* SiLU and its derivative over all 2^32 floats, held against float64:
 *
 *   exhaustive_silu [--isa NAME] [--step N]      N > 1 takes every Nth float
 *
 * Each float is a channel of a call with one time and weights (0, 1), so that it meets the
 * kernel as it is; for results of 16 bits it is the bias of one.  Fails above 4 ulp of silu, 2e-36
 * where |silu| is below that, 2^-20 of the derivative, and 0.52 ulp of bf16 and fp16, the bounds of
 * docs/numerics.md. */
#include "testing.h"

#include <pthread.h>

#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

enum { THREADS = 2, CHUNK = 1 << 16 };

/* The largest errors, and the v where they are. */
typedef struct worst {
    double error;
    float at;
} worst;

enum { ULP, RELATIVE, SMALL, DERIVATIVE, BF16, FP16, LIMITS, KINDS };
static const char *const names[] = {"silu, ulp",
                                    "silu, relative in 2^-24",
                                    "silu below 2e-36, absolute",
                                    "derivative, absolute in 2^-24",
                                    "silu in bf16, ulp",
                                    "silu in fp16, ulp",
                                    "NaN or Inf out of place"};
static const double limits[] = {4, 8, 2e-36, 16, 0.52, 0.52, 0};

typedef struct worker {
    pthread_t thread;
    const cc1d_isa *isa;
    int64_t first, step;
    worst worst[KINDS];
} worker;

static void note(worker *w, int kind, double error, float v)
{
    if (error > w->worst[kind].error) w->worst[kind] = (worst){error, v};
}

/* exp(-v) overflows below -709, where both values are 0 for all purposes. */
static void compare(worker *w, float v, float silu, float derivative)
{
    const double e = exp(v < -700 ? 700 : -(double)v), s = 1 / (1 + e);
    const double want = (v < -700 ? 0 : (double)v) * s, error = fabs((double)silu - want);
    const double slope = s * (1 + (isinf(v) || v < -700 ? 0 : (double)v * (e * s)));
    if (!isfinite(v)) {
        bool good = isnan(v) ? isnan(silu) && isnan(derivative)
                    : v > 0  ? silu == v && derivative == 1
                             : fabsf(silu) < 2e-36f && fabsf(derivative) < 2e-36f;
        note(w, LIMITS, !good, v);
        return;
    }
    if (!isfinite(silu) || !isfinite(derivative)) note(w, LIMITS, 1, v);
    if (fabs(want) > 2e-36) {
        uint64_t bits;
        memcpy(&bits, &want, sizeof bits);
        bits = (bits & 0x7ff0000000000000) - ((uint64_t)23 << 52); /* 2^-23 of the power of two */
        double ulp;
        memcpy(&ulp, &bits, sizeof ulp);
        note(w, ULP, error / ulp, v);
        note(w, RELATIVE, error / fabs(want) * 0x1p24, v);
    } else {
        note(w, SMALL, error, v);
    }
    note(w, DERIVATIVE, fabs((double)derivative - slope) * 0x1p24, v);
}

/* Of a result of 16 bits; below 2e-36 none is asked for. */
static void compare_16(worker *w, int kind, causal_conv1d_dtype dtype, float v, uint16_t bits)
{
    const double e = exp(v < -700 ? 700 : -(double)v), silu = decode(dtype, bits);
    const double want = v < -700 ? 0 : (double)v / (1 + e), error = fabs(silu - want);
    const format f = format_of(dtype);
    const double largest = decode(dtype, f.inf - 1);
    if (!isfinite(v) || !isfinite(silu)) {
        /* Halfway from the largest number to the next power of two all becomes infinite. */
        const double halfway = largest * (1 + 0.48 * ldexp(1, -f.fraction - 1));
        const bool good = isnan(v) || isnan(silu) ? isnan(v) && isnan(silu)
                          : v < 0                 ? fabs(silu) < 2e-36
                                                  : silu > 0 && (isinf(v) || want >= halfway);
        note(w, LIMITS, !good, v);
    } else if (fabs(want) <= largest && error > 2e-36) {
        note(w, kind, ldexp(error, -unit_exponent(f, want)), v);
    }
}

static causal_conv1d_tensor channels(causal_conv1d_dtype dtype, void *data)
{
    return (causal_conv1d_tensor){.data = data,
                                  .dtype = dtype,
                                  .ndim = 3,
                                  .size = {1, CHUNK, 1},
                                  .stride = {CHUNK, 1, CHUNK}};
}

static void *work(void *argument)
{
    static float weights[2] = {0, 1};
    worker *w = argument;
    float *memory = malloc(sizeof(float) * CHUNK * 6);
    uint16_t *zeros = calloc(CHUNK, sizeof *zeros), *out_16 = malloc(CHUNK * sizeof *out_16);
    float *v = memory, *one = v + CHUNK, *silu = one + CHUNK, *derivative = silu + CHUNK;
    causal_conv1d_tensor weight = {.data = weights,
                                   .dtype = CAUSAL_CONV1D_FLOAT32,
                                   .ndim = 2,
                                   .size = {CHUNK, 2},
                                   .stride = {0, 1}};
    causal_conv1d_tensor dweight = weight;
    dweight.data = derivative + CHUNK, dweight.stride[0] = 2;
    causal_conv1d_forward_args f = {.x = channels(CAUSAL_CONV1D_FLOAT32, v),
                                    .weight = weight,
                                    .out = channels(CAUSAL_CONV1D_FLOAT32, silu),
                                    .silu = true};
    causal_conv1d_backward_args b = {.x = f.x,
                                     .weight = weight,
                                     .dout = channels(CAUSAL_CONV1D_FLOAT32, one),
                                     .dx = channels(CAUSAL_CONV1D_FLOAT32, derivative),
                                     .dweight = dweight,
                                     .silu = true};
    for (int i = 0; i < CHUNK; i++) one[i] = 1;
    for (int64_t u = w->first; u <= UINT32_MAX; u += w->step * THREADS * CHUNK) {
        int n = 0;
        for (int64_t i = u; n < CHUNK && i <= UINT32_MAX; i += w->step, n++) {
            uint32_t bits = (uint32_t)i;
            memcpy(&v[n], &bits, sizeof bits);
        }
        memset(v + n, 0, sizeof *v * (size_t)(CHUNK - n));
        if (cc1d_cpu_forward(w->isa, &f, false, NULL) || cc1d_cpu_backward(w->isa, &b, NULL))
            abort();
        for (int i = 0; i < n; i++) compare(w, v[i], silu[i], derivative[i]);
        for (int kind = BF16; kind <= FP16; kind++) {
            const causal_conv1d_dtype dtype =
                kind == BF16 ? CAUSAL_CONV1D_BFLOAT16 : CAUSAL_CONV1D_FLOAT16;
            const causal_conv1d_forward_args h = {.x = channels(dtype, zeros),
                                                  .weight = weight,
                                                  .bias = {.data = v,
                                                           .dtype = CAUSAL_CONV1D_FLOAT32,
                                                           .ndim = 1,
                                                           .size = {CHUNK},
                                                           .stride = {1}},
                                                  .out = channels(dtype, out_16),
                                                  .silu = true};
            if (cc1d_cpu_forward(w->isa, &h, false, NULL)) abort();
            for (int i = 0; i < n; i++) compare_16(w, kind, dtype, v[i], out_16[i]);
        }
    }
    free(memory), free(zeros), free(out_16);
    return NULL;
}

int main(int argc, char **argv)
{
    const uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
    const cc1d_isa *isa = cc1d_best_isa();
    int64_t step = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--step")) step = strtoll(argv[i + 1], NULL, 10);
        for (int j = 0; !strcmp(argv[i], "--isa") && cc1d_isas[j]; j++)
            if (!strcmp(argv[i + 1], cc1d_isas[j]->name)) isa = cc1d_isas[j];
    }
    if (isa->features & ~have || step < 1) return 2;
    worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.isa = isa, .first = i * step * CHUNK, .step = step};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) abort();
    }
    for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    printf("%s, 1 in %lld of all floats\n", isa->name, (long long)step);
    for (int k = 0; k < KINDS; k++) {
        worst w = workers[0].worst[k];
        for (int i = 1; i < THREADS; i++)
            if (workers[i].worst[k].error > w.error) w = workers[i].worst[k];
        printf("%-30s %.4g at v = %.9g\n", names[k], w.error, (double)w.at);
        check(w.error <= limits[k], "%s: %g is above %g", names[k], w.error, limits[k]);
    }
    return report();
}
