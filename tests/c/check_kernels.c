/* Checks every CPU ISA on random calls, in the manner of dav1d's checkasm:
 *
 *   check_kernels [--seed N] [--cases N, or CASES=N] [--case N] [--isa NAME]
 *
 * --seed replays a run, --case one case of it.  Every buffer ends or begins at a page that may
 * not be touched, gaps between elements are filled with NaN and must stay as they are, and the
 * results are held against
 *   - a reference in float64, by the formulas and with dtypes by their definition;
 *   - the scalar code, for out: the same bits without SiLU, and with it 8 units in the last place
 *     of fp32 or fp64.  In fp32 that is less than a unit of fp16 or bf16, so those may round to
 *     neighbours: 1 unit.  Where SiLU underflows (v < -87), 4e-36 more, in fp64 (v < -700) 2e-301;
 *   - themselves on 1, 2, 3 and 7 threads: the same bits. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "reference.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "../../src/check/check.h"
#include "../../src/core/tensor.h"
#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

static int64_t seed;
static char where[160]; /* what runs now, for the signal handler */

/* Running. */

typedef struct part {
    pthread_t thread;
    int64_t begin, end;
    causal_conv1d_body *body;
    void *context;
} part;

static void *run_part(void *p)
{
    part *a = p;
    a->body(a->begin, a->end, a->context);
    return NULL;
}

static void for_range(void *user, int64_t begin, int64_t end, int64_t grain,
                      causal_conv1d_body *body, void *context)
{
    const int threads = *(const int *)user;
    int64_t size = (end - begin + threads - 1) / threads;
    part parts[8];
    int n = 0;
    if (size < grain) size = grain;
    for (; begin < end; begin += size, n++) {
        int64_t part_end = end - begin < size ? end : begin + size;
        parts[n] = (part){.begin = begin, .end = part_end, .body = body, .context = context};
        if (pthread_create(&parts[n].thread, NULL, run_part, &parts[n])) abort();
    }
    while (n > 0) pthread_join(parts[--n].thread, NULL);
}

typedef struct run {
    uint64_t *bits[TENSORS];
} run;

static void free_run(run *r)
{
    for (int i = OUT; i < TENSORS; i++) free(r->bits[i]);
}

static void update(const call *c, const cc1d_isa *isa, const causal_conv1d_threads *threads)
{
    const tensor *t = c->t;
    causal_conv1d_error error = {""};
    causal_conv1d_update_args args = {.x = t[X],
                                      .conv_state = t[FINAL],
                                      .weight = t[WEIGHT],
                                      .bias = t[BIAS],
                                      .cache_seqlens = t[CACHE_SEQLENS],
                                      .conv_state_indices = t[STATE_INDICES],
                                      .out = t[OUT],
                                      .silu = c->silu};
    cursor from = start(&t[INITIAL]), to = start(&t[FINAL]);
    for (int64_t n = count(&t[FINAL]); n > 0; n--, advance(&from), advance(&to))
        set_bits(&to, bits_at(&from));
    check(!cc1d_check_update(&args, &error), "%s: %s", where, error.message);
    check(!cc1d_cpu_update(isa, &args, threads), "%s: no memory", where);
}

static void forward_backward(const call *c, const cc1d_isa *isa,
                             const causal_conv1d_threads *threads)
{
    const tensor *t = c->t;
    causal_conv1d_error error = {""};
    causal_conv1d_forward_args f = {.x = t[X],
                                    .weight = t[WEIGHT],
                                    .bias = t[BIAS],
                                    .seq_idx = t[SEQ_IDX],
                                    .cu_seqlens = t[CU_SEQLENS],
                                    .initial_states = t[INITIAL],
                                    .out = t[OUT],
                                    .final_states = t[FINAL],
                                    .silu = c->silu};
    causal_conv1d_backward_args b = {.x = t[X],
                                     .weight = t[WEIGHT],
                                     .bias = t[BIAS],
                                     .seq_idx = t[SEQ_IDX],
                                     .cu_seqlens = t[CU_SEQLENS],
                                     .initial_states = t[INITIAL],
                                     .dout = t[DOUT],
                                     .dfinal_states = t[DFINAL],
                                     .dx = t[DX],
                                     .dweight = t[DWEIGHT],
                                     .dbias = t[DBIAS],
                                     .dinitial_states = t[DINITIAL],
                                     .silu = c->silu};
    check(!cc1d_check_forward(&f, &error) && !cc1d_check_backward(&b, &error), "%s: %s", where,
          error.message);
    check(!cc1d_cpu_forward(isa, &f, c->stream, threads) && !cc1d_cpu_backward(isa, &b, threads),
          "%s: no memory", where);
}

/* Runs the call and takes the results; all bytes around them must be as they were. */
static run run_call(const call *c, const cc1d_isa *isa, int n_threads)
{
    const causal_conv1d_threads threads = {for_range, &n_threads};
    run r = {{NULL}};
    (c->kind == UPDATE ? update : forward_backward)(c, isa, n_threads ? &threads : NULL);
    for (int i = OUT; i < TENSORS; i++) {
        const tensor *t = &c->t[i];
        r.bits[i] = take(t);
        check(!t->dtype || untouched(t, arenas[i]), "%s: wrote around %s", where, names[i]);
    }
    return r;
}

/* Comparing. */

/* The result lies between the roundings of what the true value may be. */
static bool as_expected(causal_conv1d_dtype dtype, uint64_t bits, expected e)
{
    double v = decode(dtype, bits);
    if (!(e.tolerance < HUGE_VAL)) return true;
    if (!isfinite(e.value)) return isnan(e.value) ? isnan(v) : v == e.value;
    return fabs(v - e.value) <= e.tolerance || (rounded(dtype, e.value - e.tolerance) <= v &&
                                                v <= rounded(dtype, e.value + e.tolerance));
}

static bool as_oracle(causal_conv1d_dtype dtype, bool silu, uint64_t bits, uint64_t oracle)
{
    double a = decode(dtype, bits), b = decode(dtype, oracle);
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (!silu || isinf(a) || isinf(b)) return bits == oracle;
    format f = format_of(dtype);
    double unit = ldexp(1, unit_exponent(f, fmax(fabs(a), fabs(b))));
    return fabs(a - b) <= (f.size >= 4 ? 8 : 1) * unit + (f.size == 8 ? 2e-301 : 4e-36);
}

static void check_all(const call *c, int i, const uint64_t *bits, const uint64_t *oracle,
                      const expected *e)
{
    causal_conv1d_dtype dtype = c->t[i].dtype;
    int64_t n = count(&c->t[i]), j = 0;
    if (c->kind == UPDATE && i > FINAL) return;
    while (j < n && as_expected(dtype, bits[j], e[j]) &&
           (i != OUT || as_oracle(dtype, c->silu, bits[j], oracle[j])))
        j++;
    check(j == n, "%s: %s[%lld] is %g (%#llx); oracle %#llx, reference %g +- %g", where, names[i],
          (long long)j, decode(dtype, bits[j]), (unsigned long long)bits[j],
          (unsigned long long)oracle[j], e[j].value, e[j].tolerance);
}

static void check_run(const call *c, const cc1d_isa *isa, const run *r, const run *oracle,
                      const reference *ref)
{
    for (int i = OUT; i < TENSORS; i++) check_all(c, i, r->bits[i], oracle->bits[i], ref->e[i]);
    /* Smaller calls do not reach the threads. */
    for (int n = 1; n <= 7 && (c->dim > 1024 || count(&c->t[X]) > 16384); n = n == 3 ? 7 : n + 1) {
        run again = run_call(c, isa, n);
        for (int i = OUT; i < TENSORS; i++)
            check(!memcmp(r->bits[i], again.bits[i], (size_t)count(&c->t[i]) * 8),
                  "%s: %s on %d threads has other bits", where, names[i], n);
        free_run(&again);
    }
}

static void check_case(int64_t number, const char *wanted)
{
    const uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
    const cc1d_isa *scalar = NULL;
    const long failed = results.failed;
    call c;
    for (const cc1d_isa *const *isa = cc1d_isas; *isa; isa++) scalar = *isa;
    snprintf(where, sizeof where, "--seed %lld --case %lld", (long long)seed, (long long)number);
    const size_t end = strlen(where);
    random_state = (uint64_t)seed ^ (uint64_t)number << 40;
    random_call(&c);
    reference ref = make_reference(&c);
    snprintf(where + end, sizeof where - end, " --isa %s", scalar->name);
    run oracle = run_call(&c, scalar, 0);
    for (const cc1d_isa *const *i = cc1d_isas; *i; i++) {
        const cc1d_isa *isa = *i;
        if ((isa->features & ~have) || (wanted && strcmp(wanted, isa->name))) continue;
        snprintf(where + end, sizeof where - end, " --isa %s", isa->name);
        run r = isa == scalar ? oracle : run_call(&c, isa, 0);
        check_run(&c, isa, &r, &oracle, &ref);
        if (isa != scalar) free_run(&r);
    }
    if (results.failed > failed) print_call(&c);
    free_run(&oracle), free_reference(&ref), free_call(&c);
}

#ifndef _WIN32
static struct sigaction usual[65];

/* Says which case it was, then lets the signal take its usual way. */
static void crashed(int signal)
{
    const char text[] = " crashed\n";
    if (write(STDOUT_FILENO, where, strlen(where)) < 0 || write(STDOUT_FILENO, text, 9) < 0)
        _exit(1);
    sigaction(signal, &usual[signal], NULL);
}
#endif

int main(int argc, char **argv)
{
    int64_t cases = getenv("CASES") ? strtoll(getenv("CASES"), NULL, 10) : 3000, only = -1;
    const char *wanted = NULL;
    seed = (int64_t)time(NULL);
    for (int i = 1; i < argc; i += 2) {
        int64_t *number = !strcmp(argv[i], "--seed")    ? &seed
                          : !strcmp(argv[i], "--cases") ? &cases
                          : !strcmp(argv[i], "--case")  ? &only
                                                        : NULL;
        if (i + 1 == argc || (!number && strcmp(argv[i], "--isa"))) {
            fprintf(stderr, "usage: check_kernels [--seed N] [--cases N] [--case N] [--isa ISA]\n");
            return 2;
        }
        if (number)
            *number = strtoll(argv[i + 1], NULL, 10);
        else
            wanted = argv[i + 1];
    }
    printf("--seed %lld\n", (long long)seed);
    fflush(stdout);
#ifndef _WIN32
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = crashed}, &usual[signals[i]]);
#endif
    for (int i = 0; i < TENSORS; i++) arenas[i] = make_arena();
    if (only >= 0) check_case(only, wanted);
    for (int64_t i = 0; only < 0 && i < cases && results.failed <= 20; i++) check_case(i, wanted);
    return report();
}
