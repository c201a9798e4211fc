/* The kernels for any width and strides, over rows in scratch memory, in REAL arithmetic.  One
 * function, correlate, makes out, dx (the taps reversed) and dweight (g as the taps) alike. */

/* For A times: sums of `count` taps, in registers.  K taps share what they load of the rows. */
INLINE void NAME(correlate_some)(REAL *sum, const REAL *from, int64_t from_step, const REAL *rows,
                                 const REAL *taps, int64_t count, const int A, const int K)
{
    V s[CORE_TIMES];
    EACH (a, A) s[a] = NAME(get)(from + a * from_step);
    int64_t k = 0;
    for (; k + K <= count; k += K) {
        V tap[CORE_TAPS];
        EACH (j, K) tap[j] = NAME(get)(taps + j * COLUMNS);
        EACH (r, A + K - 1) {
            V row = NAME(get)(rows + r * COLUMNS);
            if (K > 1) HOLD(row);
            EACH (j, K)
                if (r - j >= 0 && r - j < A) s[r - j] = VEC(fma)(tap[j], row, s[r - j]);
        }
        NEXT_ROW(rows, K * COLUMNS);
        NEXT_ROW(taps, K * COLUMNS);
    }
    for (; K > 1 && k < count; k++) {
        const V tap = NAME(get)(taps);
        EACH (a, A) s[a] = VEC(fma)(tap, NAME(get)(rows + a * COLUMNS), s[a]);
        NEXT_ROW(rows, COLUMNS);
        NEXT_ROW(taps, COLUMNS);
    }
    EACH (a, A) NAME(put)(sum + a * COLUMNS, s[a]);
}

/* sum[t] = from[t] + taps[0] rows[t] + taps[1] rows[t+1] + .., added in this order by fma, for
 * `times` times, of which up to 3 more are written; from_step 0: one row for all. */
static __attribute__((noinline)) void NAME(correlate)(REAL *sum, const REAL *from,
                                                      int64_t from_step, const REAL *rows,
                                                      const REAL *taps, int64_t count,
                                                      int64_t times)
{
    for (int l = 0; l < COLUMNS; l += VL) {
        int64_t t = 0;
        for (; t + CORE_TIMES <= times; t += CORE_TIMES)
            NAME(correlate_some)(sum + t * COLUMNS + l, from + t * from_step + l, from_step,
                                 rows + t * COLUMNS + l, taps + l, count, CORE_TIMES, CORE_TAPS);
        for (; t < times; t += 4)
            NAME(correlate_some)(sum + t * COLUMNS + l, from + t * from_step + l, from_step,
                                 rows + t * COLUMNS + l, taps + l, count, 4, CORE_TAPS);
    }
}

/* The scratch memory of a tile, in rows. */
typedef struct NAME(scratch) {
    int64_t block;       /* times at once */
    REAL *w, *reversed;  /* W taps each, reversed those of dx */
    REAL *bias, *zero;   /* a row each */
    REAL *x;             /* W-1 times of history and a block */
    REAL *g;             /* gradients of the W-1 times before a block, and of it */
    REAL *sum;           /* a block */
    REAL *masked;        /* 2 (W-1) */
    REAL *dw, *block_dw; /* W and that of bias */
    int64_t *ids;        /* of the rows of x or g, if there is seq_idx */
} NAME(scratch);

static NAME(scratch) NAME(lay_out)(const cc1d_args *args, const cc1d_tile *tile)
{
    const int64_t width = args->weight.size[1];
    char *end = tile->scratch;
    NAME(scratch) s = {.block = cc1d_block(args)};
#define TAKE(rows) ((REAL *)(end += (rows) * 64) - (rows) * COLUMNS)
    s.w = TAKE(width), s.reversed = TAKE(width), s.bias = TAKE(1), s.zero = TAKE(1);
    s.x = TAKE(width + s.block + CC1D_SPARE), s.g = TAKE(width + s.block + CC1D_SPARE);
    s.sum = TAKE(s.block + CC1D_SPARE), s.masked = TAKE(2 * width + CC1D_SPARE);
    s.dw = TAKE(width + 1 + CC1D_SPARE), s.block_dw = TAKE(width + 1 + CC1D_SPARE);
#undef TAKE
    s.ids = args->seq_idx.dtype ? (int64_t *)end : NULL;
    assert(end + (width + s.block) * 8 <= (char *)tile->scratch + cc1d_scratch_bytes(args));
    return s;
}

/* Times [from, to) of a block whose windows lie in the same rows, the first at `rows`; NULL:
 * padding, where all is 0. */
typedef struct NAME(piece) {
    int64_t from, to;
    const REAL *rows;
} NAME(piece);

/* The next piece of the windows [t, t + width) of rows, t < n.  With ids a window sees the rows of
 * the id of its row `own` alone: where it has others, it is of a copy in which they are 0. */
static bool NAME(next_piece)(NAME(piece) * p, const REAL *rows, const int64_t *ids, int64_t own,
                             int64_t width, int64_t n, REAL *masked)
{
    const int64_t from = p->from = p->to;
    if (from >= n) return false;
    p->to = n, p->rows = rows + from * COLUMNS;
    if (!ids) return true;
    const int64_t id = ids[from + own];
    int64_t first = from + own, end = first; /* of rows that have this id */
    while (first > from && ids[first - 1] == id) first--;
    while (end < n + width - 1 && ids[end] == id) end++;
    if (end - own < n) p->to = end - own;
    if (id < 0) {
        p->rows = NULL;
    } else if (first == from && from + width <= end) {
        if (end - width + 1 < p->to) p->to = end - width + 1;
    } else {
        if (first > from && first < p->to) p->to = first;
        for (int64_t r = from; r < p->to + width - 1; r++) {
            REAL *row = masked + (r - from) * COLUMNS;
            if (ids[r] == id)
                memcpy(row, rows + r * COLUMNS, 64);
            else
                memset(row, 0, 64);
        }
        p->rows = masked;
    }
    return true;
}

/* The ids of n times; beyond the end there is none. */
static void NAME(load_ids)(const lane_group *g, int64_t time, int64_t n, int64_t *ids)
{
    for (int64_t r = 0; ids && r < n; r++) {
        const int64_t t = g->begin[0] + time + r;
        ids[r] =
            g->length > 0 && t < g->length ? cc1d_seq_idx(&g->args->seq_idx, g->batch[0], t) : -1;
    }
}

/* The window of x of n times, and their ids. */
static void NAME(load_windows)(const lane_group *g, const NAME(scratch) * s, int64_t time,
                               int64_t n)
{
    const int64_t before = g->args->weight.size[1] - 1;
    NAME(load_times)(g, &g->args->x, time - before, n + before, s->x);
    NAME(load_ids)(g, time - before, n + before, s->ids);
}

/* sum = the convolution of n times whose windows are loaded, taps in the order k = 0..W-1. */
static void NAME(convolve_rows)(const lane_group *g, const NAME(scratch) * s, int64_t n)
{
    const int64_t width = g->args->weight.size[1];
    NAME(piece) p = {0, 0, NULL};
    while (NAME(next_piece)(&p, s->x, s->ids, width - 1, width, n, s->masked))
        if (p.rows)
            NAME(correlate)(s->sum + p.from * COLUMNS, s->bias, 0, p.rows, s->w, width,
                            p.to - p.from);
        else
            NAME(clear)(s->sum + p.from * COLUMNS, COLUMNS, p.to - p.from);
}

/* SiLU or its derivative of n rows, and of some beyond. */
static void NAME(activate)(REAL *rows, int64_t n, bool derivative, causal_conv1d_dtype dtype)
{
    for (REAL *p = rows; p < rows + n * COLUMNS; p += GROUP * VL) {
        V v[GROUP];
        EACH (i, GROUP) v[i] = NAME(get)(p + i * VL);
        VEC(silu)(v, derivative, dtype);
        EACH (i, GROUP) NAME(put)(p + i * VL, v[i]);
    }
}

static void NAME(forward_lanes)(const lane_group *g, const NAME(scratch) * s)
{
    for (int64_t t = 0; t < g->times; t += s->block) {
        const int64_t n = g->times - t < s->block ? g->times - t : s->block;
        NAME(load_windows)(g, s, t, n);
        NAME(convolve_rows)(g, s, n);
        if (g->args->silu) NAME(activate)(s->sum, n, false, g->args->out.dtype);
        NAME(store_times)(g, &g->args->out, t, n, s->sum);
    }
}

/* Adds to dw what n times give, whose gradients are at g and whose windows are loaded: each block
 * by itself, so that no sum is of too many terms. */
static void NAME(sum_weights)(const lane_group *group, const NAME(scratch) * s, const REAL *g,
                              int64_t n)
{
    const int64_t width = group->args->weight.size[1];
    const REAL *from = s->zero;
    NAME(piece) p = {0, 0, NULL};
    if (n <= 0) return;
    while (NAME(next_piece)(&p, s->x, s->ids, width - 1, width, n, s->masked)) {
        if (!p.rows) continue;
        NAME(correlate)(s->block_dw, from, from == s->zero ? 0 : COLUMNS, p.rows,
                        g + p.from * COLUMNS, p.to - p.from, width);
        from = s->block_dw;
    }
    if (from == s->zero) return; /* all was padding */
    for (int l = 0; l < COLUMNS; l += VL) {
        V sum[4], all;
        EACH (i, 4) sum[i] = VEC(set)(0);
        for (int64_t r = 0; r < n; r++)
            sum[r % 4] = VEC(add)(sum[r % 4], NAME(get)(g + r * COLUMNS + l));
        all = VEC(add)(VEC(add)(sum[0], sum[1]), VEC(add)(sum[2], sum[3]));
        NAME(put)(s->block_dw + width * COLUMNS + l, all);
    }
    for (int64_t i = 0; i < (width + 1) * COLUMNS; i += VL)
        NAME(put)(s->dw + i, VEC(add)(NAME(get)(s->dw + i), NAME(get)(s->block_dw + i)));
}

/* Adds dw to the tile's sums, and clears it. */
static void NAME(end_sums)(const cc1d_args *args, const NAME(scratch) * s, int64_t d, int channels,
                           int lanes, REAL *partial)
{
    const int64_t width = args->weight.size[1];
    for (int64_t k = 0; k <= width; k++)
        for (int l = 0; l < lanes; l++)
            partial[k * args->x.size[1] + d + l % channels] += s->dw[k * COLUMNS + l];
    NAME(clear)(s->dw, COLUMNS, width + 1);
}

/* dx of n times, or columns of the initial states, from u on, whose gradients begin at s->g. */
static void NAME(store_dx)(const lane_group *g, const NAME(scratch) * s, int64_t u, int64_t n)
{
    const cc1d_args *args = g->args;
    const tensor *dfinal = &args->dfinal_states, *dinitial = &args->dinitial_states;
    const int64_t width = args->weight.size[1], states = u < -n ? n : u < 0 ? -u : 0;
    const int64_t column = g->begin[0] + u - g->length + width - 1; /* in the final states, of u */
    int64_t element[MOST_LANES];
    NAME(piece) p = {0, 0, NULL};
    NAME(load_ids)(g, u, n + width - 1, s->ids);
    while (NAME(next_piece)(&p, s->g, s->ids, 0, width, n, s->masked))
        if (p.rows)
            NAME(correlate)(s->sum + p.from * COLUMNS, s->zero, 0, p.rows, s->reversed, width,
                            p.to - p.from);
        else
            NAME(clear)(s->sum + p.from * COLUMNS, COLUMNS, p.to - p.from);
    if (dfinal->dtype && column + n > 0) {
        const int64_t others = column < 0 ? -column : 0;
        state_elements(g, dfinal, column + others, element);
        NAME(pack)(s->masked, dfinal, element, g->lanes, dfinal->stride[2], n - others);
        for (int64_t i = 0; i < (n - others) * COLUMNS; i += VL) {
            REAL *sum = s->sum + others * COLUMNS + i;
            NAME(put)(sum, VEC(add)(NAME(get)(sum), NAME(get)(s->masked + i)));
        }
    }
    if (states > 0) {
        state_elements(g, dinitial, u + width - 1, element);
        NAME(unpack)(s->sum, dinitial, element, g->lanes, dinitial->stride[2], states);
    }
    if (n > states)
        NAME(store_times)(g, &args->dx, u + states, n - states, s->sum + states * COLUMNS);
}

/* g at n times of which the first `summed` count for dweight, to `to`. */
static void NAME(load_gradients)(const lane_group *g, const NAME(scratch) * s, int64_t time,
                                 int64_t n, int64_t summed, REAL *to)
{
    const int64_t before = g->args->weight.size[1] - 1, left = g->length - g->begin[0] - time;
    const int64_t inside = left < 0 ? 0 : left < n ? left : n;
    NAME(load_times)(g, &g->args->dout, time, n, to);
    if (g->args->silu || summed > 0) NAME(load_windows)(g, s, time, n);
    if (g->args->silu) {
        NAME(convolve_rows)(g, s, inside);
        NAME(activate)(s->sum, inside, true, REAL_DTYPE);
        for (int64_t i = 0; i < inside * COLUMNS; i += VL)
            NAME(put)(to + i, VEC(mul)(NAME(get)(to + i), NAME(get)(s->sum + i)));
        /* Beyond a later segment's end 0 may have met NaN. */
        for (int l = 0; l < g->lanes; l++) {
            const int64_t own = g->length - g->begin[l] - time, end = own < 0 ? 0 : own;
            if (end < inside) NAME(clear)(to + end * COLUMNS + l, 1, inside - end);
        }
    } else if (s->ids && summed <= 0) {
        NAME(load_ids)(g, time - before, n + before, s->ids);
    }
    for (int64_t r = 0; s->ids && r < n; r++)
        if (s->ids[r + before] < 0) NAME(clear)(to + r * COLUMNS, COLUMNS, 1);
}

static void NAME(backward_lanes)(const lane_group *g, const NAME(scratch) * s)
{
    const int64_t before = g->args->weight.size[1] - 1, times = g->times;
    const bool initial = g->begin[0] == 0 && g->args->dinitial_states.dtype;
    int64_t u = initial ? -before : 0, have = initial ? before : 0; /* rows of g from u on */
    NAME(clear)(s->g, COLUMNS, have);
    if (times <= 0 && !initial) return;
    while (u < times) {
        const int64_t time = u + have, rest = times + before - time;
        const int64_t n = rest < s->block ? rest : s->block;
        const int64_t summed = times - time < n ? times - time : n;
        REAL *to = s->g + have * COLUMNS;
        NAME(load_gradients)(g, s, time, n, summed, to);
        NAME(sum_weights)(g, s, to, summed);
        have += n;
        if (have <= before) continue;
        NAME(store_dx)(g, s, u, have - before);
        u += have - before;
        memmove(s->g, s->g + (have - before) * COLUMNS, (size_t)before * 64);
        have = before;
    }
}

/* The taps and bias of a group's channels. */
static void NAME(load_weights)(const cc1d_args *args, int64_t d, int channels,
                               const NAME(scratch) * s)
{
    const tensor *weight = &args->weight, *bias = &args->bias;
    const int64_t width = weight->size[1];
    int64_t element[MOST_LANES];
    channel_elements(weight, d, channels, element);
    NAME(pack)(s->w, weight, element, COLUMNS, weight->stride[1], width);
    for (int64_t k = 0; k < width; k++)
        memcpy(s->reversed + k * COLUMNS, s->w + (width - 1 - k) * COLUMNS, 64);
    NAME(clear)(s->bias, COLUMNS, 1);
    NAME(clear)(s->zero, COLUMNS, 1);
    if (!bias->dtype) return;
    channel_elements(bias, d, channels, element);
    NAME(pack)(s->bias, bias, element, COLUMNS, 0, 1);
}

/* Makes groups of the sequences and times of a tile, for `channels` channels from d on, and runs
 * the forward on them, or the backward if partial is not NULL. */
static void NAME(run_groups)(const cc1d_args *args, const cc1d_tile *tile, int64_t d, int channels,
                             const NAME(scratch) * s, REAL *partial)
{
    const bool states =
        args->states.dtype || args->dfinal_states.dtype || args->dinitial_states.dtype;
    const bool alike = !args->cu_seqlens.dtype && !args->seq_idx.dtype &&
                       !args->cache_seqlens.dtype && !args->conv_state_indices.dtype;
    for (int64_t n = tile->batch_begin; n < tile->batch_end;) {
        const int64_t length = cc1d_sequence_at(args, n).length, width = args->weight.size[1];
        const int64_t end = tile->time_end < length ? tile->time_end : length;
        const int64_t times = end > tile->time_begin ? end - tile->time_begin : 0;
        const int64_t left = tile->batch_end - n;
        int most = COLUMNS / channels, sequences = alike ? left < most ? (int)left : most : 1;
        int segments = states || args->seq_idx.dtype ? 1 : most / sequences;
        if (times / segments < 4 * width) segments = 1;
        /* Segments, then the few times that they leave over. */
        for (int64_t begin = tile->time_begin, rest = times; segments > 0;
             segments = segments > 1) {
            const int64_t each = rest / segments;
            const lane_group g =
                group_lanes(args, d, channels, n, sequences, segments, begin, each);
            if (partial)
                NAME(backward_lanes)(&g, s);
            else
                NAME(forward_lanes)(&g, s);
            if (partial && channels < COLUMNS) /* groups may differ in lanes */
                NAME(end_sums)(args, s, d, channels, g.lanes, partial);
            begin += segments * each, rest -= segments * each;
        }
        n += sequences;
    }
}

static __attribute__((used)) void NAME(forward_any)(const cc1d_args *args, const cc1d_tile *tile)
{
    const NAME(scratch) s = NAME(lay_out)(args, tile);
    if ((tile->dim_end - tile->dim_begin) % COLUMNS) /* lanes that are not used */
        memset(tile->scratch, 0, (size_t)cc1d_scratch_bytes(args));
    for (int64_t d = tile->dim_begin, n; d < tile->dim_end; d += n) {
        n = tile->dim_end - d < tile->channels ? tile->dim_end - d : tile->channels;
        NAME(load_weights)(args, d, (int)n, &s);
        NAME(run_groups)(args, tile, d, (int)n, &s, NULL);
    }
}

static __attribute__((used)) void NAME(backward_any)(const cc1d_args *args, const cc1d_tile *tile,
                                                     void *partial)
{
    const NAME(scratch) s = NAME(lay_out)(args, tile);
    const int64_t width = args->weight.size[1];
    REAL *sums = partial;
    if ((tile->dim_end - tile->dim_begin) % COLUMNS)
        memset(tile->scratch, 0, (size_t)cc1d_scratch_bytes(args));
    for (int64_t k = 0; k <= width; k++)
        memset(sums + k * args->x.size[1] + tile->dim_begin, 0,
               (size_t)(tile->dim_end - tile->dim_begin) * sizeof(REAL));
    NAME(clear)(s.dw, COLUMNS, width + 1);
    for (int64_t d = tile->dim_begin, n; d < tile->dim_end; d += n) {
        n = tile->dim_end - d < tile->channels ? tile->dim_end - d : tile->channels;
        NAME(load_weights)(args, d, (int)n, &s);
        NAME(run_groups)(args, tile, d, (int)n, &s, sums);
        NAME(end_sums)(args, &s, d, (int)n, (int)n, sums);
    }
}

#undef COLUMNS
#undef VL
