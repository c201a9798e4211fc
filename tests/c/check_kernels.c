/* Checks every CPU ISA on random calls, in the manner of dav1d's checkasm:
 *
 *   check_kernels [--seed N] [--cases N, or CASES=N] [--case N] [--isa NAME]
 *
 * --seed replays a run, --case one case of it.  Every buffer ends or begins at a page that may
 * not be touched, gaps between elements are filled with NaN and must stay as they are, and the
 * results are held against
 *   - a reference in float64, by the formulas and with dtypes by their definition;
 *   - the scalar code, for the forward pass: the same bits without SiLU, and with it 8 units in
 *     the last place of fp32.  That is less than a unit of fp16 or bf16, so those may round to
 *     neighbours: 1 unit.  Where SiLU underflows (v < -87), 4e-36 more;
 *   - themselves on 2, 3 and 7 threads: the same bits. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../src/check.h"
#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

typedef causal_conv1d_tensor tensor;

enum { X, WEIGHT, BIAS, DOUT, OUT, DX, DWEIGHT, DBIAS, TENSORS };
static const char *const names[] = {"x", "weight", "bias", "dout", "out", "dx", "dweight", "dbias"};

/* REALS of about one size.  INTEGERS so small that every sum is exact: without SiLU not one
 * product may be missing.  SPECIALS: reals with NaN, Inf, denormals, huge values and -0 in x, dout.
 */
typedef enum values { REALS, INTEGERS, SPECIALS } values;
static const char *const value_names[] = {"reals", "integers", "specials"};

typedef struct call {
    int64_t batch, dim, seqlen, width;
    bool silu;
    values values;
    tensor t[TENSORS];
} call;

/* What a result must be.  A tolerance of Inf or NaN asks for nothing. */
typedef struct expected {
    double value, tolerance;
} expected;

static int64_t seed;
static uint64_t random_state;
static char where[160]; /* what runs now, for the signal handler */

static int64_t below(int64_t n)
{
    return (int64_t)(next_random(&random_state) % (uint64_t)n);
}

static bool chance(int64_t n)
{
    return below(n) == 0;
}

/* Memory: one arena per tensor, between two pages that may not be touched. */

enum { ARENA = 1 << 26, MARGIN = 256, CANARY = 0xff /* NaN in every dtype */ };
static char *arenas[TENSORS];

static void make_arenas(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < TENSORS; i++) {
        char *p = mmap(NULL, ARENA + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (p == MAP_FAILED || mprotect(p + page, ARENA, PROT_READ | PROT_WRITE)) abort();
        arenas[i] = p + page;
    }
}

/* Bytes from element (0,0,0) to the first, returned, and those from the first past the last. */
static int64_t span(const tensor *t, int64_t *bytes)
{
    int64_t size = format_of(t->dtype).size, low = 0, high = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (t->size[i] == 0) return *bytes = 0;
        *(t->stride[i] < 0 ? &low : &high) += (t->size[i] - 1) * t->stride[i];
    }
    *bytes = (high - low) * size;
    return low * size;
}

/* Gives t memory flush against one guard page, and canaries there and in a margin before it. */
static void place(tensor *t, char *arena)
{
    int64_t bytes, low = span(t, &bytes);
    bool front = chance(2);
    if (bytes + MARGIN > ARENA) abort();
    memset(front ? arena : arena + ARENA - bytes - MARGIN, CANARY, (size_t)(bytes + MARGIN));
    t->data = (front ? arena : arena + ARENA - bytes) - low;
}

static bool untouched(const tensor *t, const char *arena)
{
    int64_t bytes, low = span(t, &bytes);
    const char *first = (char *)t->data + low, *p = first == arena ? arena : first - MARGIN;
    return (unsigned char)*p == CANARY && memcmp(p, p + 1, (size_t)(bytes + MARGIN) - 1) == 0;
}

/* Elements; 0 of a tensor that is absent. */
static int64_t count(const tensor *t)
{
    int64_t n = t->dtype ? 1 : 0;
    for (int i = 0; i < t->ndim; i++) n *= t->size[i];
    return n;
}

/* Goes through the elements of a tensor of up to 3 dimensions, the last running fastest. */
typedef struct cursor {
    const tensor *t;
    int64_t at[3];
    char *p;
} cursor;

static void advance(cursor *c)
{
    int64_t offset = 0;
    for (int i = c->t->ndim - 1; i >= 0; i--) {
        offset += c->t->stride[i];
        if (++c->at[i] < c->t->size[i]) break;
        offset -= c->t->size[i] * c->t->stride[i], c->at[i] = 0;
    }
    c->p += offset * format_of(c->t->dtype).size;
}

static cursor start(const tensor *t)
{
    return (cursor){t, {0, 0, 0}, t->data};
}

/* The bits of an element, on a little-endian machine. */
static uint64_t bits_at(const cursor *c)
{
    uint64_t bits = 0;
    memcpy(&bits, c->p, (size_t)format_of(c->t->dtype).size);
    return bits;
}

static void set_bits(const cursor *c, uint64_t bits)
{
    memcpy(c->p, &bits, (size_t)format_of(c->t->dtype).size);
}

static void *alloc(int64_t n, size_t size)
{
    void *p = calloc((size_t)n + 1, size);
    if (!p) abort();
    return p;
}

/* Takes the results out of t and leaves canaries in their place. */
static uint64_t *take(const tensor *t)
{
    int64_t n = count(t);
    uint64_t *bits = alloc(n, sizeof *bits);
    cursor c = start(t);
    for (int64_t i = 0; i < n; i++, advance(&c)) bits[i] = bits_at(&c), set_bits(&c, UINT64_MAX);
    return bits;
}

static double *read_all(const tensor *t)
{
    int64_t n = count(t);
    double *v = alloc(n, sizeof *v);
    cursor c = start(t);
    for (int64_t i = 0; i < n; i++, advance(&c)) v[i] = decode(t->dtype, bits_at(&c));
    return v;
}

/* Random calls. */

/* About a multiple of 8, 16 or 64, where vectors and blocks end. */
static int64_t near_multiple(int64_t times)
{
    const int64_t of[] = {8, 16, 64};
    return of[below(3)] * (1 + below(times)) + below(3) - 1;
}

static void random_shape(call *c)
{
    c->batch = 1 + below(3), c->width = chance(6) ? 1 + below(10) : 2 + below(3);
    c->dim = chance(3) ? below(6) : chance(3) ? near_multiple(2) : 1 + below(40);
    c->seqlen = chance(6) ? below(6) : chance(4) ? 1 + below(200) : near_multiple(3);
    if (chance(40)) c->batch = 0;
    /* At times more than one tile of ... */
    switch (below(100)) {
    case 0: /* rows of time, and their halo */
    case 1:
        c->batch = 1 + below(2), c->dim = 1 + below(2);
        c->seqlen = 8192 * (chance(4) ? 2 : 1) + (chance(2) ? below(5) - 1 : below(40));
        break;
    case 2: /* time in channels-last */
        c->batch = 1, c->dim = 230 + below(80), c->seqlen = 321 + below(80);
        break;
    case 3: /* channels */ c->dim = 255 + below(300), c->seqlen = 1 + below(40); break;
    case 4: /* batches */
        c->batch = 500 + below(1500), c->dim = 1 + below(6), c->seqlen = below(4);
        break;
    case 5: /* channels whose sums are added up */
        c->batch = 1 + below(2), c->dim = 1020 + below(1500), c->seqlen = 1 + below(8);
        break;
    }
}

typedef enum layout { TIME, DIM, ANY } layout; /* which dimension has stride 1 */

/* Random strides: rows of time, rows of channels or any order and step; gaps behind rows, and
 * the outer dimensions at times backwards or, in an input, expanded. */
static void lay_out(tensor *t, layout layout, bool input)
{
    int order[3] = {2, 1, 0}, last = t->ndim - 1; /* innermost first */
    int64_t step = layout == ANY && chance(2) ? 2 + below(2) : 1;
    for (int i = 0; i < t->ndim; i++) order[i] = last - i;
    if (layout == DIM) order[0] = 1, order[1] = 2;
    for (int i = last; i > 0 && layout == ANY; i--) {
        int j = (int)below(i + 1), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (int i = 0; i < t->ndim; i++) {
        int64_t size = t->size[order[i]], *stride = &t->stride[order[i]];
        bool free = i > 0 || layout == ANY;
        *stride = free && chance(8) ? -step : step;
        if (size == 1 && chance(4)) *stride = below(100) - 50; /* means nothing then */
        step = step * (size > 1 ? size : 1) + (chance(3) ? below(6) : 0);
        if (input && free && chance(12)) *stride = 0;
    }
}

static const causal_conv1d_dtype dtypes[] = {CAUSAL_CONV1D_FLOAT32, CAUSAL_CONV1D_FLOAT16,
                                             CAUSAL_CONV1D_BFLOAT16, CAUSAL_CONV1D_FLOAT64};

static uint64_t random_bits(causal_conv1d_dtype dtype, values values, int scale)
{
    format f = format_of(dtype);
    uint64_t sign = (uint64_t)below(2) << (8 * f.size - 1);
    uint64_t one = (uint64_t)1 << f.fraction, exponent = (f.inf / one - 1) / 2;
    if (values == INTEGERS) return encode(dtype, (double)(below(17) - 8));
    if (values == SPECIALS && chance(16)) switch (below(6)) {
        case 0: return sign | (f.inf + 1 + (uint64_t)below((int64_t)one - 1)); /* NaN */
        case 1: return sign | f.inf;
        case 2: return sign | (uint64_t)below((int64_t)one);               /* denormal or 0 */
        case 3: return sign | (f.inf - 1 - (uint64_t)below((int64_t)one)); /* huge */
        default: return sign;
        }
    return sign |
           ((exponent - 6 + (uint64_t)(below(8) + scale)) * one + (uint64_t)below((int64_t)one));
}

static void random_call(call *c)
{
    *c = (call){.silu = chance(2), .values = (values)(chance(3) ? 1 + below(2) : 0)};
    random_shape(c);
    int64_t shape[3] = {c->batch, c->dim, c->seqlen}, weight_shape[2] = {c->dim, c->width};
    causal_conv1d_dtype dtype = chance(8) ? CAUSAL_CONV1D_FLOAT64 : dtypes[below(3)];
    int common = (int)below(10), scale = c->silu && chance(4) ? 4 : 0; /* the tails of SiLU */
    for (int i = 0; i < TENSORS; i++) {
        tensor *t = &c->t[i];
        bool like_weight = i == WEIGHT || i == DWEIGHT, like_bias = i == BIAS || i == DBIAS;
        if (like_bias && chance(3)) continue; /* absent */
        t->ndim = like_bias ? 1 : like_weight ? 2 : 3;
        t->dtype = t->ndim == 3 ? dtype : dtypes[below(4)];
        memcpy(t->size, t->ndim == 3 ? shape : weight_shape, sizeof *shape * (size_t)t->ndim);
        layout layout = common < 9 ? (enum layout)(common / 4) : (enum layout)below(2);
        /* Sums of one value over and over would round to one side: not for dout. */
        lay_out(t, t->ndim == 3 ? layout : ANY, i < DOUT || (i == DOUT && c->values == INTEGERS));
        place(t, arenas[i]);
        values values = t->ndim < 3 && c->values == SPECIALS ? REALS : c->values;
        cursor at = start(t);
        for (int64_t n = i < OUT ? count(t) : 0; n > 0; n--, advance(&at))
            set_bits(&at, random_bits(t->dtype, values, i == X ? scale : 0));
    }
}

static void print_call(const call *c)
{
    printf("  batch %lld dim %lld seqlen %lld width %lld%s, %s\n", (long long)c->batch,
           (long long)c->dim, (long long)c->seqlen, (long long)c->width, c->silu ? " SiLU" : "",
           value_names[c->values]);
    for (int i = 0; i < TENSORS; i++) {
        const tensor *t = &c->t[i];
        printf("  %-7s %s strides", names[i], dtype_name(t->dtype));
        for (int d = 0; d < t->ndim; d++) printf(" %lld", (long long)t->stride[d]);
        printf("\n");
    }
}

/* The reference. */

typedef struct reference {
    expected *e[TENSORS]; /* of OUT and those behind it */
} reference;

/* Rounding errors of sums whose absolute products add up to sum, in units of 2^-24 (2^-53): one
 * for each fma, one for a weight rounded to fp32.  The 11 of width 10 are 6.6e-7; roundings of
 * the longer sums of dweight and dbias go both ways and the partial sums are small beside sum. */
static double bound(const call *c, double sum)
{
    bool f64 = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64;
    if (!(sum < (f64 ? 1e307 : 1e38))) return INFINITY; /* may overflow on the way */
    if (c->values == INTEGERS && !c->silu) return 0;
    return f64 ? 1e-14 * sum + 1e-320 : 1e-6 * sum + 1e-40;
}

/* Adds a * b to e; e's tolerance is the sum of the finite absolute products until finish. */
static void add(expected *e, double a, double b)
{
    e->value += a * b;
    if (isfinite(a) && isfinite(b)) e->tolerance += fabs(a * b);
}

static void finish(const call *c, expected *e, double error)
{
    e->tolerance = bound(c, e->tolerance + error) + error;
}

/* The error that error makes in a product with by; beside a NaN it does not matter. */
static double scaled(double error, double by)
{
    return error > 0 && !isnan(by) ? error * fabs(by) : 0;
}

/* The bounds of docs/numerics.md: silu is within 8 u relative, or 2e-36 where v < -87, silu'
 * within 16 u absolute, and the error of v counts 1.1 times for silu, half for silu'. */
static void apply_silu(const call *c, expected *out, double *g, double *g_error)
{
    const double u = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64 ? 0x1p-53 : 0x1p-24, far = 700;
    const double v = out->value < -far ? -far : out->value, held = v > far ? far : v;
    const double s = 1 / (1 + exp(-held)), rest = 1 / (1 + exp(held)), e = out->tolerance;
    const double dout = *g;
    *out = (expected){v * s, 1.1 * e + scaled(8 * u, isfinite(v) ? v * s : 0) + 2e-36};
    *g *= s * (1 + held * rest);
    *g_error = INFINITY;
    if (!isfinite(dout)) *g_error = e;
    if (isfinite(dout) && e < HUGE_VAL)
        *g_error = fabs(dout) * (e / 2 + 16 * u + 2e-36) + bound(c, fabs(*g));
}

static reference make_reference(const call *c)
{
    const int64_t T = c->seqlen, W = c->width, n = c->batch * c->dim * T;
    reference r = {{NULL}};
    for (int i = OUT; i < TENSORS; i++)
        r.e[i] = alloc(i == DWEIGHT ? c->dim * W : i == DBIAS ? c->dim : n, sizeof **r.e);
    double *x = read_all(&c->t[X]), *g = read_all(&c->t[DOUT]), *error = alloc(n, sizeof *g);
    double *weight = read_all(&c->t[WEIGHT]), *bias = read_all(&c->t[BIAS]);
    double *dw_error = alloc(c->dim * (W + 1), sizeof *dw_error), *db_error = dw_error + c->dim * W;
    for (int64_t i = 0; i < n; i++) {
        int64_t d = i / T % c->dim, t = i % T;
        const double *w = weight + d * W;
        expected *out = &r.e[OUT][i], *dw = r.e[DWEIGHT] + d * W;
        if (c->t[BIAS].dtype) add(out, 1, bias[d]);
        for (int64_t k = 0; k < W; k++)
            if (t - (W - 1) + k >= 0) add(out, w[k], x[i - (W - 1) + k]);
        finish(c, out, 0);
        if (c->silu) apply_silu(c, out, &g[i], &error[i]);
        add(&r.e[DBIAS][d], 1, g[i]), db_error[d] += error[i];
        for (int64_t k = 0; k < W; k++)
            if (t - (W - 1) + k >= 0) {
                add(&dw[k], g[i], x[i - (W - 1) + k]);
                dw_error[d * W + k] += scaled(error[i], x[i - (W - 1) + k]);
            } else if (!isfinite(g[i] + error[i])) {
                dw[k].tolerance = INFINITY; /* the 0 before x times Inf: added or left out */
            }
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t d = i / T % c->dim, t = i % T;
        double dx_error = 0;
        for (int64_t k = 0; k < W; k++)
            if (t + W - 1 - k < T) {
                add(&r.e[DX][i], weight[d * W + k], g[i + W - 1 - k]);
                dx_error += scaled(error[i + W - 1 - k], weight[d * W + k]);
            }
        finish(c, &r.e[DX][i], dx_error);
    }
    for (int64_t i = 0; i < c->dim * W; i++) finish(c, &r.e[DWEIGHT][i], dw_error[i]);
    for (int64_t i = 0; i < c->dim; i++) finish(c, &r.e[DBIAS][i], db_error[i]);
    free(x), free(g), free(error), free(weight), free(bias), free(dw_error);
    return r;
}

/* Comparing. */

static void free_reference(reference *r)
{
    for (int i = OUT; i < TENSORS; i++) free(r->e[i]);
}

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
    if (!silu || dtype == CAUSAL_CONV1D_FLOAT64 || isinf(a) || isinf(b)) return bits == oracle;
    format f = format_of(dtype);
    double unit = ldexp(1, unit_exponent(f, fmax(fabs(a), fabs(b))));
    return fabs(a - b) <= (f.size == 4 ? 8 : 1) * unit + 4e-36;
}

static void check_all(const call *c, int i, const uint64_t *bits, const uint64_t *oracle,
                      const expected *e)
{
    causal_conv1d_dtype dtype = c->t[i].dtype;
    int64_t n = count(&c->t[i]), j = 0;
    while (j < n && as_expected(dtype, bits[j], e[j]) &&
           (i != OUT || as_oracle(dtype, c->silu, bits[j], oracle[j])))
        j++;
    check(j == n, "%s: %s[%lld] is %g (%#llx); oracle %#llx, reference %g +- %g", where, names[i],
          (long long)j, decode(dtype, bits[j]), (unsigned long long)bits[j],
          (unsigned long long)oracle[j], e[j].value, e[j].tolerance);
}

/* Threads. */

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
        parts[n] = (part){.begin = begin,
                          .end = end - begin < size ? end : begin + size,
                          .body = body,
                          .context = context};
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

/* Runs both passes and takes the results; all bytes around them must be as they were. */
static run run_call(const call *c, const cc1d_isa *isa, int n_threads)
{
    const tensor *t = c->t;
    causal_conv1d_forward_args f = {
        .x = t[X], .weight = t[WEIGHT], .bias = t[BIAS], .out = t[OUT], .silu = c->silu};
    causal_conv1d_backward_args b = {.x = t[X],
                                     .weight = t[WEIGHT],
                                     .bias = t[BIAS],
                                     .dout = t[DOUT],
                                     .dx = t[DX],
                                     .dweight = t[DWEIGHT],
                                     .dbias = t[DBIAS],
                                     .silu = c->silu};
    const causal_conv1d_threads threads = {for_range, &n_threads};
    run r = {{NULL}};
    causal_conv1d_error error = {""};
    check(!cc1d_check_forward(&f, &error) && !cc1d_check_backward(&b, &error), "%s: %s", where,
          error.message);
    check(!cc1d_cpu_forward(isa, &f, n_threads ? &threads : NULL), "%s: no memory", where);
    check(!cc1d_cpu_backward(isa, &b, n_threads ? &threads : NULL), "%s: no memory", where);
    for (int i = OUT; i < TENSORS; i++) {
        r.bits[i] = take(&t[i]);
        check(!t[i].dtype || untouched(&t[i], arenas[i]), "%s: wrote around %s", where, names[i]);
    }
    return r;
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

static struct sigaction default_action[65];

/* Says which case it was, then lets the signal take its usual way. */
static void crashed(int signal)
{
    const char text[] = " crashed\n";
    if (write(STDOUT_FILENO, where, strlen(where)) < 0 || write(STDOUT_FILENO, text, 9) < 0)
        _exit(1);
    sigaction(signal, &default_action[signal], NULL);
}

static void set_where(int64_t number, const char *name)
{
    snprintf(where, sizeof where, "--seed %lld --case %lld --isa %s", (long long)seed,
             (long long)number, name);
}

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
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = crashed},
                  &default_action[signals[i]]);
    make_arenas();

    const uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
    const cc1d_isa *scalar = NULL;
    for (const cc1d_isa *const *isa = cc1d_isas; *isa; isa++) scalar = *isa;
    for (int64_t i = only < 0 ? 0 : only; i < (only < 0 ? cases : only + 1); i++) {
        call c;
        long failed = results.failed;
        random_state = (uint64_t)seed ^ (uint64_t)i << 40;
        set_where(i, "scalar");
        random_call(&c);
        reference ref = make_reference(&c);
        run oracle = run_call(&c, scalar, 0);
        for (const cc1d_isa *const *isa = cc1d_isas; *isa; isa++) {
            if (((*isa)->features & ~have) || (wanted && strcmp(wanted, (*isa)->name))) continue;
            set_where(i, (*isa)->name);
            run r = *isa == scalar ? oracle : run_call(&c, *isa, 0);
            check_run(&c, *isa, &r, &oracle, &ref);
            if (*isa != scalar) free_run(&r);
        }
        free_run(&oracle), free_reference(&ref);
        if (results.failed > failed) print_call(&c);
        if (results.failed > 20) break;
    }
    return report();
}
