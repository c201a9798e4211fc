/* Checks every CPU ISA on random calls, in the manner of dav1d's checkasm:
 *
 *   check_kernels [--seed N] [--cases N, or CASES=N] [--case N] [--isa NAME]
 *
 * --seed replays a run, --case one case of it.  Every buffer ends or begins at a page that may
 * not be touched, gaps between elements are filled with NaN and must stay as they are, and the
 * results are held against
 *   - a reference in float64, by the formulas and with dtypes by their definition;
 *   - the scalar code, for out: the same bits without SiLU, and with it 8 units in the last place
 *     of fp32.  That is less than a unit of fp16 or bf16, so those may round to neighbours: 1
 *     unit.  Where SiLU underflows (v < -87), 4e-36 more;
 *   - themselves on 1, 2, 3 and 7 threads: the same bits. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "tensors.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "../../src/check.h"
#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

/* The tensors of a call: inputs, indices, and from OUT on results.  The conv_state of an update is
 * FINAL, which begins as INITIAL. */
enum {
    X,
    WEIGHT,
    BIAS,
    INITIAL,
    DOUT,
    DFINAL,
    SEQ_IDX,
    CU_SEQLENS,
    CACHE_SEQLENS,
    STATE_INDICES,
    OUT,
    FINAL,
    DX,
    DWEIGHT,
    DBIAS,
    DINITIAL,
    TENSORS
};
static const char *const names[] = {
    "x",       "weight",     "bias",          "initial_states",     "dout", "dfinal_states",
    "seq_idx", "cu_seqlens", "cache_seqlens", "conv_state_indices", "out",  "final_states",
    "dx",      "dweight",    "dbias",         "dinitial_states"};
static char *arenas[TENSORS];

typedef enum kind { PLAIN, PACKED, WITH_IDS, UPDATE } kind;

typedef struct call {
    kind kind;
    int64_t batch, dim, seqlen, width;
    int64_t sequences, states, columns; /* states (states, dim, columns) */
    bool silu, stream;
    values values;
    tensor t[TENSORS];
    int64_t *indices[TENSORS]; /* the values of the index tensors that there are */
} call;

/* What a result must be.  A tolerance of Inf or NaN asks for nothing.  Until finish, tolerance is
 * the sum of absolute products, error what the errors in their factors make. */
typedef struct expected {
    double value, tolerance, error;
} expected;

static int64_t seed;
static char where[160]; /* what runs now, for the signal handler */

/* Random calls. */

/* About a multiple of 8, 16 or 64, where vectors and blocks end. */
static int64_t near_multiple(int64_t times)
{
    const int64_t of[] = {8, 16, 64};
    return of[below(3)] * (1 + below(times)) + below(3) - 1;
}

static void random_shape(call *c)
{
    c->batch = 1 + below(3);
    c->width = chance(3) ? 1 + below(10) : 2 + below(3);
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
    case 3:
        c->batch = 1, c->dim = 230 + below(80);
        c->seqlen = 321 + below(80);
        break;
    case 4: /* channels */
        c->dim = 255 + below(300);
        c->seqlen = 1 + below(40);
        break;
    case 5: /* batches */
        c->batch = 500 + below(1500), c->dim = 1 + below(6), c->seqlen = below(4);
        break;
    case 6: /* channels whose sums are added up */
        c->batch = 1 + below(2), c->dim = 1020 + below(1500), c->seqlen = 1 + below(8);
        break;
    }
    c->sequences = c->states = c->batch, c->columns = c->width - 1;
    if (c->kind == PACKED) {
        if (c->seqlen < 200 && c->dim < 200) c->seqlen *= 1 + below(3);
        c->batch = 1;
        c->sequences = c->states = chance(4) ? 1 + below(100) : 1 + below(6);
        if (c->seqlen == 0 && chance(2)) c->sequences = c->states = 0;
    } else if (c->kind == UPDATE) {
        c->seqlen = chance(4) ? below(12) : 1;
        c->columns += chance(4) ? below(5) : below(2), c->states += below(4);
    }
}

static int compare_indices(const void *a, const void *b)
{
    return (*(const int64_t *)a > *(const int64_t *)b) -
           (*(const int64_t *)a < *(const int64_t *)b);
}

/* The shape of an index tensor, and its values; false if it is absent. */
static bool random_indices(call *c, int i)
{
    const bool present = i == SEQ_IDX      ? c->kind == WITH_IDS
                         : i == CU_SEQLENS ? c->kind == PACKED
                         : i == CACHE_SEQLENS
                             ? c->kind == UPDATE && chance(3)
                             : c->kind == UPDATE && (chance(2) || c->states > c->batch);
    if (!present) return false;
    tensor *t = &c->t[i];
    t->dtype = chance(2) ? CAUSAL_CONV1D_INT32 : CAUSAL_CONV1D_INT64;
    t->ndim = i == SEQ_IDX ? 2 : 1;
    t->size[0] = i == CU_SEQLENS ? c->sequences + 1 : c->batch;
    t->size[1] = c->seqlen;
    int64_t n = count(t), *v = c->indices[i] = alloc(n, sizeof *v);
    for (int64_t j = 0; j < n; j++) switch (i) {
        case SEQ_IDX: /* runs of ids, which may come again; negative ones are padding */
            v[j] = j > 0 && !chance(10) ? v[j - 1] : below(4) - 1;
            break;
        case CU_SEQLENS: v[j] = j == 0 ? 0 : j == n - 1 ? c->seqlen : below(c->seqlen + 1); break;
        case CACHE_SEQLENS: v[j] = chance(4) ? 1000000 + below(100) : below(12); break;
        default: v[j] = chance(6) ? -1 - below(3) : j + c->states - c->batch;
        }
    if (i == CU_SEQLENS) qsort(v, (size_t)n, sizeof *v, compare_indices);
    if (i == STATE_INDICES)
        for (int64_t j = n - 1, k, swap; j > 0; j--)
            k = below(j + 1), swap = v[j], v[j] = v[k], v[k] = swap;
    return true;
}

/* The shape and dtype of another tensor; false if it is absent. */
static bool random_tensor(call *c, int i, causal_conv1d_dtype dtype)
{
    tensor *t = &c->t[i];
    const int64_t like_x[] = {c->batch, c->dim, c->seqlen}, like_weight[] = {c->dim, c->width};
    const int64_t like_states[] = {c->states, c->dim, c->columns}, *size = like_x;
    t->ndim = 3;
    switch (i) {
    case BIAS:
    case DBIAS:
        if (chance(3)) return false;
        t->ndim = 1, size = like_weight;
        break;
    case WEIGHT:
    case DWEIGHT: t->ndim = 2, size = like_weight; break;
    case FINAL:
    case DFINAL:
        if (c->kind == WITH_IDS) return false; /* falls through */
    case INITIAL:
    case DINITIAL:
        if (c->kind != UPDATE && chance(2)) return false;
        size = like_states;
    }
    t->dtype = t->ndim == 3 ? dtype : dtypes[below(4)];
    memcpy(t->size, size, sizeof *size * (size_t)t->ndim);
    return true;
}

static void random_call(call *c)
{
    const kind kinds[] = {PLAIN, PLAIN, PACKED, WITH_IDS, UPDATE};
    *c = (call){.kind = kinds[below(5)], .silu = chance(2), .stream = chance(2)};
    c->values = chance(3) ? chance(2) ? INTEGERS : SPECIALS : REALS;
    random_shape(c);
    const causal_conv1d_dtype dtype = dtypes[chance(8) ? 3 : below(3)];
    const int common = (int)below(10), scale = c->silu && chance(4) ? 4 : 0; /* the tails of SiLU */
    for (int i = 0; i < TENSORS; i++) {
        tensor *t = &c->t[i];
        const bool index = i >= SEQ_IDX && i <= STATE_INDICES;
        if (!(index ? random_indices(c, i) : random_tensor(c, i, dtype))) {
            *t = (tensor){0};
            continue;
        }
        const bool states = i == INITIAL || i == DFINAL || i == FINAL || i == DINITIAL;
        layout layout = t->ndim < 3 ? ANY : (enum layout)(common < 9 ? common / 4 : below(2));
        if (states) layout = c->kind == UPDATE && !chance(4) ? TIME : (enum layout)below(3);
        /* Sums of one value over and over would round to one side: not for dout. */
        lay_out(t, layout, i < DOUT || (i == DOUT && c->values == INTEGERS && !c->silu));
        place(t, arenas[i]);
        const values values = i == WEIGHT && c->values == SPECIALS ? REALS : c->values;
        cursor at = start(t);
        for (int64_t n = i < OUT ? count(t) : 0, j = 0; j < n; j++, advance(&at))
            set_bits(&at, index ? (uint64_t)c->indices[i][j]
                                : random_bits(t->dtype, values, i == X ? scale : 0));
    }
}

static void free_call(call *c)
{
    for (int i = 0; i < TENSORS; i++) free(c->indices[i]);
}

static void print_call(const call *c)
{
    const char *const kinds[] = {"plain", "packed", "with ids", "update"};
    printf("  %s, width %lld%s%s, %s\n", kinds[c->kind], (long long)c->width,
           c->silu ? ", SiLU" : "", c->stream ? ", streamed" : "", value_names[c->values]);
    for (int i = 0; i < TENSORS; i++) {
        const tensor *t = &c->t[i];
        if (t->dtype) printf("  %-18s %s (", names[i], dtype_name(t->dtype));
        for (int d = 0; d < t->ndim; d++) printf(" %lld", (long long)t->size[d]);
        if (t->dtype) printf(" ), strides");
        for (int d = 0; d < t->ndim; d++) printf(" %lld", (long long)t->stride[d]);
        if (t->dtype) printf("\n");
    }
}

/* The reference. */

/* Rounding errors of sums whose absolute products add up to sum, in units of 2^-24 (2^-53): one
 * for each fma, one for a weight rounded to fp32.  The 11 of width 10 are 6.6e-7; roundings of
 * the longer sums of dweight and dbias go both ways and the partial sums are small beside sum.
 * exact: no SiLU comes before, so that INTEGERS leave no error at all. */
static double bound(const call *c, double sum, bool exact)
{
    bool f64 = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64;
    if (!(sum < (f64 ? 1e307 : 1e38))) return INFINITY; /* may overflow on the way */
    if (c->values == INTEGERS && exact) return 0;
    return f64 ? 1e-14 * sum + 1e-320 : 1e-6 * sum + 1e-40;
}

/* Adds a * b, where b is off by error; beside a NaN errors do not matter. */
static void add(expected *e, double a, double b, double error)
{
    e->value += a * b;
    if (isfinite(a) && isfinite(b)) e->tolerance += fabs(a * b);
    if (error > 0 && !isnan(a)) e->error += error * fabs(a);
}

static void finish(const call *c, expected *e, int64_t n, bool exact)
{
    for (int64_t i = 0; i < n; i++)
        e[i].tolerance = bound(c, e[i].tolerance + e[i].error, exact) + e[i].error;
}

/* The bounds of docs/numerics.md: silu is within 8 u relative, or 2e-36 where v < -87, silu'
 * within 16 u absolute, and the error of v counts 1.1 times for silu, half for silu'.  Turns dout
 * into g, and returns its error.  In float64 u is 2 units, one for the reference. */
static double apply_silu(const call *c, expected *out, double *g)
{
    const double u = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64 ? 0x1p-52 : 0x1p-24, far = 700;
    const double v = out->value < -far ? -far : out->value, held = v > far ? far : v;
    const double s = 1 / (1 + exp(-held)), rest = 1 / (1 + exp(held)), e = out->tolerance;
    const double dout = *g;
    *out = (expected){v * s, 1.1 * e + (isfinite(v) ? 8 * u * fabs(v * s) : 0) + 2e-36, 0};
    *g *= s * (1 + held * rest);
    if (!isfinite(dout) || !(e < HUGE_VAL)) return e;
    return fabs(dout) * (e / 2 + 16 * u + 2e-36) + bound(c, fabs(*g), false);
}

static int64_t modulo(int64_t a, int64_t n)
{
    return (a % n + n) % n;
}

/* Sequence n: where it lies in x, and in the states. */
typedef struct sequence {
    int64_t row, begin, length, state;
} sequence;

static sequence sequence_at(const call *c, int64_t n)
{
    const int64_t *packed = c->indices[CU_SEQLENS], *state = c->indices[STATE_INDICES];
    if (packed) return (sequence){0, packed[n], packed[n + 1] - packed[n], n};
    return (sequence){n, 0, c->seqlen, state ? state[n] : n};
}

/* The element of X, or before time 0 of INITIAL, that is column u of a sequence's channel d. */
static int64_t column(const call *c, int64_t n, int64_t d, int64_t u, int *tensor)
{
    const sequence s = sequence_at(c, n);
    const int64_t *ring = c->indices[CACHE_SEQLENS];
    *tensor = u < 0 ? INITIAL : X;
    if (u >= 0) return (s.row * c->dim + d) * c->seqlen + s.begin + u;
    return (s.state * c->dim + d) * c->columns +
           (ring ? modulo(ring[n] + u, c->columns) : c->columns + u);
}

/* Whether time t of a row sees its column u. */
static bool sees(const call *c, int64_t row, int64_t t, int64_t u)
{
    const int64_t *ids = c->indices[SEQ_IDX] ? c->indices[SEQ_IDX] + row * c->seqlen : NULL;
    return !ids || (ids[t] >= 0 && ids[t] == ids[u < 0 ? 0 : u]);
}

/* What the call's tensors hold, and what its results must be. */
typedef struct reference {
    double *in[OUT];
    expected *e[TENSORS];
} reference;

static void refer_time(const call *c, reference *r, int64_t n, int64_t d, int64_t t)
{
    const int64_t W = c->width;
    const sequence s = sequence_at(c, n);
    const double *w = r->in[WEIGHT] + d * W;
    int into;
    const int64_t i = column(c, n, d, t, &into);
    const bool update = c->kind == UPDATE, padding = s.state < 0 || !sees(c, s.row, t, t);
    expected *out = &r->e[OUT][i], *dw = r->e[DWEIGHT] + d * W;
    if (padding) return; /* out is 0, and nothing flows back */
    if (c->t[BIAS].dtype) add(out, 1, r->in[BIAS][d], 0);
    for (int64_t k = 0; k < W; k++)
        if (sees(c, s.row, t, t - (W - 1) + k)) {
            int64_t j = column(c, n, d, t - (W - 1) + k, &into);
            add(out, w[k], r->in[into][j], 0);
        }
    finish(c, out, 1, true);
    double g = update ? 0 : r->in[DOUT][i], error = 0;
    if (c->silu) error = apply_silu(c, out, &g);
    add(&r->e[DBIAS][d], 1, g, error);
    for (int64_t k = 0; k < W && !update; k++)
        if (sees(c, s.row, t, t - (W - 1) + k)) {
            int64_t j = column(c, n, d, t - (W - 1) + k, &into);
            add(&dw[k], r->in[into][j], g, error);
            add(&r->e[into == X ? DX : DINITIAL][j], w[k], g, error);
        } else if (!isfinite(g + error)) {
            dw[k].tolerance = INFINITY; /* Inf times a tap that is not seen: 0, or left out */
        }
}

/* The final states of a sequence and what their gradient gives back. */
static void refer_states(const call *c, reference *r, int64_t n, int64_t d)
{
    const sequence s = sequence_at(c, n);
    const int64_t L = c->columns, *ring = c->indices[CACHE_SEQLENS];
    expected *final = r->e[FINAL] + (s.state * c->dim + d) * L;
    int from;
    if (s.state < 0) return;
    for (int64_t j = 0; j < L && !ring; j++) {
        int64_t i = column(c, n, d, s.length - L + j, &from);
        final[j].value = r->in[from][i];
        if (c->t[DFINAL].dtype && c->kind != UPDATE)
            add(&r->e[from == X ? DX : DINITIAL][i], 1,
                r->in[DFINAL][(s.state * c->dim + d) * L + j], 0);
    }
    for (int64_t t = 0; t < s.length && L > 0 && ring; t++)
        final[modulo(ring[n] + t, L)].value = r->in[X][column(c, n, d, t, &from)];
}

static reference make_reference(const call *c)
{
    reference r = {{NULL}, {NULL}};
    const int64_t n_x = c->batch * c->dim * c->seqlen, n_weight = c->dim * c->width;
    const int64_t n_states = c->states * c->dim * c->columns;
    for (int i = 0; i < OUT; i++) r.in[i] = i == INITIAL ? NULL : read_all(&c->t[i]);
    r.in[INITIAL] =
        c->t[INITIAL].dtype ? read_all(&c->t[INITIAL]) : alloc(n_states, sizeof(double));
    r.e[OUT] = alloc(n_x, sizeof(expected)), r.e[DX] = alloc(n_x, sizeof(expected));
    r.e[DWEIGHT] = alloc(n_weight, sizeof(expected)), r.e[DBIAS] = alloc(c->dim, sizeof(expected));
    r.e[FINAL] = alloc(n_states, sizeof(expected)),
    r.e[DINITIAL] = alloc(n_states, sizeof(expected));
    /* States that no row uses stay. */
    for (int64_t i = 0; i < n_states; i++) r.e[FINAL][i].value = r.in[INITIAL][i];
    for (int64_t n = 0; n < c->sequences; n++)
        for (int64_t d = 0; d < c->dim; d++) {
            for (int64_t t = 0; t < sequence_at(c, n).length; t++) refer_time(c, &r, n, d, t);
            refer_states(c, &r, n, d);
        }
    finish(c, r.e[DX], n_x, !c->silu), finish(c, r.e[DINITIAL], n_states, !c->silu);
    finish(c, r.e[DWEIGHT], n_weight, !c->silu), finish(c, r.e[DBIAS], c->dim, !c->silu);
    return r;
}

static void free_reference(reference *r)
{
    for (int i = 0; i < OUT; i++) free(r->in[i]);
    for (int i = OUT; i < TENSORS; i++) free(r->e[i]);
}

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
