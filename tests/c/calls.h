/* Random calls of every operation: shapes, dtypes, layouts, values, and how they are printed. */
#ifndef CALLS_H
#define CALLS_H

#include "tensors.h"

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

/* About a multiple of 8, 16 or 64, where vectors and blocks end. */
static int64_t near_multiple(int64_t times)
{
    const int64_t of[] = {8, 16, 64};
    return of[below(3)] * (1 + below(times)) + below(3) - 1;
}

static void random_shape(call *c)
{
    c->batch = 1 + below(3);
    c->width = chance(3) ? 1 + below(10) : chance(6) ? 9 + below(30) : 2 + below(3);
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
    case 7: /* time, for any width */
    case 8:
        c->batch = 1 + below(2), c->dim = 1 + below(24), c->width = 9 + below(20);
        c->seqlen = 1024 * (1 + below(2)) + below(40) - 20;
        break;
    case 9: /* taps */
    case 10: c->dim = 1 + below(20), c->width = 1 + below(300), c->seqlen = 1 + below(450); break;
    case 11: /* columns taken by rows of the batch */
        c->batch = 1 + below(40), c->dim = 1 + below(20), c->seqlen = 1 + below(60);
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
    const causal_conv1d_dtype dtype = dtypes[chance(5) ? 3 : below(3)];
    const int common = (int)below(13), scale = c->silu && chance(4) ? 4 : 0; /* the tails of SiLU */
    for (int i = 0; i < TENSORS; i++) {
        tensor *t = &c->t[i];
        const bool index = i >= SEQ_IDX && i <= STATE_INDICES;
        if (!(index ? random_indices(c, i) : random_tensor(c, i, dtype))) {
            *t = (tensor){0};
            continue;
        }
        const bool states = i == INITIAL || i == DFINAL || i == FINAL || i == DINITIAL;
        layout layout = t->ndim < 3 ? ANY : (enum layout)(common < 12 ? common / 4 : below(2));
        if (states)
            layout = c->kind != UPDATE || chance(4) ? (enum layout)below(3)
                     : chance(3)                    ? DIM
                                                    : TIME;
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

#endif
