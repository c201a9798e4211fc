/* What a call must give: a reference in float64, and how far from it a result may be. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "calls.h"

/* What a result must be.  A tolerance of Inf or NaN asks for nothing.  Until finish, tolerance is
 * the sum of absolute products, error what the errors in their factors make. */
typedef struct expected {
    double value, tolerance, error;
} expected;

/* Rounding errors of sums whose absolute products add up to sum, in units of 2^-24 (2^-53): one
 * for each fma, one for a weight rounded to fp32.  The 11 of width 10 are 6.6e-7; roundings of
 * the longer sums of dweight and dbias go both ways and the partial sums are small beside sum.
 * Wider ones have a unit per tap.
 * exact: no SiLU comes before, so that INTEGERS leave no error at all. */
static double bound(const call *c, double sum, bool exact)
{
    bool f64 = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64;
    if (!(sum < (f64 ? 1e307 : 1e38))) return INFINITY; /* may overflow on the way */
    if (c->values == INTEGERS && exact) return 0;
    const double terms = (double)c->width + 2;
    return f64 ? fmax(1e-14, terms * 0x1p-53) * sum + 1e-320
               : fmax(1e-6, terms * 0x1p-24) * sum + 1e-40;
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
 * within 10 u absolute, and the error of v counts 1.1 times for silu, half for silu'.  Where it is
 * rounded to 16 bits, silu is within 6.2e-5 (bf16) or 4e-6 (fp16) before that.  Turns dout into g,
 * and returns its error.  In float64 u is 2 units, one for the reference. */
static double apply_silu(const call *c, expected *out, double *g)
{
    const double u = c->t[X].dtype == CAUSAL_CONV1D_FLOAT64 ? 0x1p-52 : 0x1p-24, far = 700;
    const double v = out->value < -far ? -far : out->value, held = v > far ? far : v;
    const double of_silu = c->t[X].dtype == CAUSAL_CONV1D_BFLOAT16  ? 6.2e-5
                           : c->t[X].dtype == CAUSAL_CONV1D_FLOAT16 ? 4e-6
                                                                    : 8 * u;
    const double s = 1 / (1 + exp(-held)), rest = 1 / (1 + exp(held)), e = out->tolerance;
    const double dout = *g;
    *out = (expected){v * s, 1.1 * e + (isfinite(v) ? of_silu * fabs(v * s) : 0) + 2e-36, 0};
    *g *= s * (1 + held * rest);
    if (!isfinite(dout) || !(e < HUGE_VAL)) return e;
    return fabs(dout) * (e / 2 + 10 * u + 2e-36) + bound(c, fabs(*g), false);
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

#endif
