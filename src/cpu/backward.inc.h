/* The backward algorithms over an ISA vocabulary, in one pass over x, dout and dx.  With g the
 * gradient of the preactivation, g = dout * silu'(v) or dout:
 *   dx[u] = sum_k w[k] g[u+W-1-k],  dw[k] = sum_t g[t] x[t-(W-1)+k],  dbias = sum_t g[t]
 * dx[u] for u < 0 is the gradient of the initial states; the last W-1 also get that of the final
 * states.  dx runs W-1 times behind g.  Beyond a tile's last time g is recomputed, not summed. */

INLINE vf gradient(vf dout, const vf *tap, const vf *w, const causal_conv1d_dtype dtype,
                   const int W, const bool silu_on)
{
    if (!silu_on) return dout;
    vf v = convolve(tap, w, W);
    silu(&v, 1, dtype, true);
    return vf_mul(dout, v);
}

/* v[i] = silu'(v[i]) for n vectors in memory, n a multiple of a group's. */
INLINE void derivatives(float *v, int64_t n, const causal_conv1d_dtype dtype)
{
    const int VL = vl(dtype), G = group(dtype);
    for (int64_t i = 0; i < n; i += G, v += G * VL) {
        vf r[GROUP];
        EACH (j, G) r[j] = vf_get(v + j * VL, dtype);
        silu(r, G, dtype, true);
        EACH (j, G) vf_put(v + j * VL, dtype, r[j]);
    }
}

/* Adds g * tap[k] to sum[k], g to sum[W]. */
INLINE void accumulate(vf *sum, vf g, const vf *tap, const int W)
{
    EACH (k, W) sum[k] = vf_fma(g, tap[k], sum[k]);
    sum[W] = vf_add(sum[W], g);
}

/* The place in the final states of column t of a sequence; negative if it is not among them. */
INLINE int64_t final_column(const cc1d_sequence *s, int64_t t, const int W)
{
    return t - s->length + W - 1;
}

INLINE float load_dfinal(const cc1d_args *args, const cc1d_sequence *s, int64_t d, int64_t j,
                         causal_conv1d_dtype dtype)
{
    return load_scalar(at(&args->dfinal_states, dtype, s->state, d, j), dtype);
}

/* A row of time as the backward walks it: what stands in registers between two vectors. */
typedef struct time_row {
    const char *x, *dout;
    vf prev; /* x of the vector before */
} time_row;

/* silu' at the vectors of a group from t on, prev being x of the vector before. */
INLINE void derivatives_time(const char *x, int64_t t, vf prev, const vf *w, float *derivative,
                             const causal_conv1d_dtype dtype, const int W)
{
    const int VL = vl(dtype);
    for (int64_t i = 0; i < group(dtype); i++) {
        vf cur = vf_load(x + (t + i * VL) * (int64_t)cc1d_dtype_size(dtype), dtype, VL);
        vf tap[CC1D_MAX_WIDTH];
        shift_taps(tap, prev, cur, dtype, W);
        vf_put(derivative + i * VL, dtype, convolve(tap, w, W));
        prev = cur;
    }
    derivatives(derivative, group(dtype), dtype);
}

/* g at the n times from t on, or a vector of them; lanes beyond are 0.  tap has the taps that
 * count. */
INLINE vf gradient_time(time_row *row, int64_t t, int64_t n, vf *tap, const vf *w,
                        const uint8_t *masks, const causal_conv1d_dtype dtype, const int W,
                        const bool silu_on)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    vf cur = vf_load(row->x + t * size, dtype, n), g = vf_load(row->dout + t * size, dtype, n);
    shift_taps(tap, row->prev, cur, dtype, W);
    row->prev = cur;
    const bool whole = !masks || all_full(masks + t, dtype, W);
    if (!whole)
        EACH (k, W) tap[k] = vf_keep_bits(tap[k], dtype, masks + t, 1 << k);
    g = gradient(g, tap, w, dtype, W, silu_on);
    if (!whole) g = vf_keep_bits(g, dtype, masks + t, ALL_TAPS);
    if (n < vl(dtype)) { /* 0 * Inf must not reach the sums from lanes that do not exist */
        g = vf_keep(g, dtype, (int)n);
        EACH (k, W) tap[k] = vf_keep(tap[k], dtype, (int)n);
    }
    return g;
}

/* dx of the vector at time t, whose gradients are g, followed by those of next. */
INLINE vf dx_time(vf g, vf next, const uint8_t *masks, int64_t t, const vf *w,
                  const causal_conv1d_dtype dtype, const int W)
{
    const int VL = vl(dtype);
    vf dx = vf_mul(w[W - 1], g);
    if (masks && !(all_full(masks + t, dtype, W) && all_full(masks + t + VL, dtype, W))) {
        EACH (j, W - 1) {
            const int k = W - 2 - j;
            vf shifted =
                vf_shift(vf_keep_bits(g, dtype, masks + t, 1 << k),
                         vf_keep_bits(next, dtype, masks + t + VL, 1 << k), dtype, VL - 1 - j);
            dx = vf_fma(w[k], shifted, dx);
        }
        return dx;
    }
    EACH (j, W - 1) dx = vf_fma(w[W - 2 - j], vf_shift(g, next, dtype, VL - 1 - j), dx);
    return dx;
}

/* dx + what dfinal_states gives back to the columns of the vector at time t. */
INLINE vf add_dfinal_time(vf dx, const cc1d_args *args, const cc1d_sequence *s, int64_t d,
                          int64_t t, const causal_conv1d_dtype dtype, const int W)
{
    const int VL = vl(dtype);
    float row[MAX_VL] = {0};
    if (!args->dfinal_states.dtype || final_column(s, t + VL, W) <= 0) return dx;
    for (int64_t u = t; u < t + VL && u < s->length; u++)
        if (final_column(s, u, W) >= 0)
            row[place(u - t, dtype)] = load_dfinal(args, s, d, final_column(s, u, W), dtype);
    return vf_add(dx, vf_get(row, dtype));
}

/* The gradient of the initial states of channel d, g being the vector at time 0. */
INLINE void dinitial_time(const cc1d_args *args, const cc1d_sequence *s, int64_t d, vf g,
                          const uint8_t *masks, const float *channel,
                          const causal_conv1d_dtype dtype, const int W)
{
    float row[MAX_VL];
    if (!args->dinitial_states.dtype) return;
    vf_put(row, dtype, g);
    for (int64_t j = 0; j < W - 1; j++) {
        int64_t u = j - (W - 1);
        float sum = final_column(s, u, W) >= 0 && args->dfinal_states.dtype
                        ? load_dfinal(args, s, d, final_column(s, u, W), dtype)
                        : 0;
        for (int64_t t = 0; t <= j && t < s->length; t++)
            if (!masks || masks[t] >> (j - t) & 1) sum += channel[j - t] * row[place(t, dtype)];
        store_scalar(at(&args->dinitial_states, dtype, s->state, d, j), dtype, sum);
    }
}

INLINE void backward_time(const cc1d_args *args, const cc1d_tile *tile, float *partial,
                          const causal_conv1d_dtype dtype, const int W)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), dim = args->x.size[1];
    const int VL = vl(dtype), G = group(dtype);
    const bool silu_on = args->silu;
    ALIGNED float derivative[GROUP * LANES];
    for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) {
        float channel[CC1D_MAX_WIDTH + 1];
        vf w[CC1D_MAX_WIDTH + 1], sum[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH];
        load_channel(&args->weight, &args->bias, d, W, channel);
        EACH (k, W + 1) w[k] = vf_set(channel[k]), sum[k] = vf_set(0);
        for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
            const cc1d_sequence s = cc1d_sequence_at(args, b);
            const int64_t end = tile->time_end < s.length ? tile->time_end : s.length;
            time_row row = {at(&args->x, dtype, s.batch, d, s.start),
                            at(&args->dout, dtype, s.batch, d, s.start), vf_set(0)};
            const uint8_t *masks = args->masks ? args->masks + s.batch * s.length : NULL;
            char *dx = at(&args->dx, dtype, s.batch, d, s.start);
            int64_t t = tile->time_begin;
            /* Up to here no mask and no gradient of final states need be looked at. */
            const int64_t plain_end = masks                       ? t
                                      : args->dfinal_states.dtype ? s.length - (W - 1)
                                                                  : end;
            vf g = vf_set(0), next = vf_set(0);
            if (t < end) row.prev = history(args, &s, d, row.x, dtype, W, t);
            while (t < end) {
                next = gradient_time(&row, t, end - t, tap, w, masks, dtype, W, silu_on);
                accumulate(sum, next, tap, W);
                if (t > tile->time_begin) {
                    vf v = dx_time(g, next, masks, t - VL, w, dtype, W);
                    v = add_dfinal_time(v, args, &s, d, t - VL, dtype, W);
                    vf_store(dx + (t - VL) * size, dtype, v, VL);
                }
                if (t == 0) dinitial_time(args, &s, d, next, masks, channel, dtype, W);
                g = next;
                t += VL;
                for (int i = 0; t <= plain_end && t + VL <= end; i++, t += VL) {
                    if (silu_on && i % G == 0) {
                        if (t + G * VL > end || t + (G - 1) * VL > plain_end) break;
                        derivatives_time(row.x, t, row.prev, w, derivative, dtype, W);
                    }
                    next = gradient_time(&row, t, VL, tap, w, NULL, dtype, W, false);
                    if (silu_on) next = vf_mul(next, vf_get(derivative + i % G * VL, dtype));
                    accumulate(sum, next, tap, W);
                    vf_store(dx + (t - VL) * size, dtype, dx_time(g, next, NULL, 0, w, dtype, W),
                             VL);
                    g = next;
                }
            }
            if (s.length == 0 && t == 0) dinitial_time(args, &s, d, g, masks, channel, dtype, W);
            if (tile->time_begin >= end) continue;
            next = vf_set(0);
            if (end < s.length)
                next = gradient_time(&row, end, s.length - end, tap, w, masks, dtype, W, silu_on);
            vf v = dx_time(g, next, masks, t - VL, w, dtype, W);
            v = add_dfinal_time(v, args, &s, d, t - VL, dtype, W);
            vf_store(dx + (t - VL) * size, dtype, v, end - (t - VL));
        }
        EACH (k, W + 1) partial[k * dim + d] = vf_sum(sum[k], dtype);
    }
}

/* A tile of channel rows: where its columns lie, and what each vector of channels carries from one
 * block of times to the next. */
typedef struct dim_rows {
    const cc1d_args *args;
    const cc1d_tile *tile;
    cc1d_sequence sequence;
    int64_t x_step, dout_step, dx_step;
    ALIGNED float rows[CC1D_MAX_WIDTH + 1][ROW];   /* weights and bias */
    ALIGNED float states[CC1D_MAX_WIDTH - 1][ROW]; /* columns before time 0 */
    ALIGNED float g[CC1D_MAX_WIDTH - 1][ROW];      /* of the last W-1 times */
    ALIGNED float sum[CC1D_MAX_WIDTH + 1][ROW];
} dim_rows;

/* What is stored for column u: v, with the gradient of the final states, in dx or dinitial. */
INLINE void store_dx_dim(const dim_rows *r, int64_t u, int64_t i, int64_t n, vf v,
                         const causal_conv1d_dtype dtype, const int W)
{
    const cc1d_sequence *s = &r->sequence;
    const int64_t d = r->tile->dim_begin + i, j = final_column(s, u, W);
    const int count = n < vl(dtype) ? (int)n : vl(dtype);
    float row[MAX_VL] = {0};
    if (r->args->dfinal_states.dtype && j >= 0) {
        for (int c = 0; c < count; c++)
            row[place(c, dtype)] = load_dfinal(r->args, s, d + c, j, dtype);
        v = vf_add(v, vf_get(row, dtype));
    }
    if (u >= 0) {
        vf_store(at(&r->args->dx, dtype, s->batch, d, s->start + u), dtype, v, n);
        return;
    }
    vf_put(row, dtype, v);
    for (int c = 0; c < count; c++)
        store_scalar(at(&r->args->dinitial_states, dtype, s->state, d + c, u + W - 1), dtype,
                     row[place(c, dtype)]);
}

enum { BACKWARD_BLOCK = 16 }; /* times */

/* Adds what `times` times of the vector of n channels at channel i of the tile give to the sums. */
INLINE void sum_dim_block(dim_rows *r, const char *x, float g[][MAX_VL], int64_t t, int64_t times,
                          int64_t i, int64_t n, const uint8_t *masks,
                          const causal_conv1d_dtype dtype, const int W)
{
    vf tap[CC1D_MAX_WIDTH], sum[CC1D_MAX_WIDTH + 1];
    EACH (k, W + 1) sum[k] = vf_get(&r->sum[k][i], dtype);
    load_window(tap, x, r->x_step, t, n, &r->states[0][i], dtype, W);
    for (int64_t j = 0; j < times; j++) {
        vf seen[CC1D_MAX_WIDTH];
        EACH (k, W - 1) tap[k] = tap[k + 1];
        tap[W - 1] = vf_load(x + j * r->x_step, dtype, n);
        mask_window(seen, tap, masks ? masks[t + j] : ALL_TAPS, W);
        accumulate(sum, vf_get(g[j], dtype), seen, W);
    }
    EACH (k, W + 1) vf_put(&r->sum[k][i], dtype, sum[k]);
}

/* Times [t, t + times) of the vector of n channels that begins at channel i of the tile.  In the
 * halo after a tile's last time nothing is summed, and past the sequence's end g is 0.  If `inner`,
 * every column to store is one of dx alone.  Sums in pairs of registers would leave too few for the
 * rest: they follow on their own, from g in the cache. */
INLINE void backward_dim_block(dim_rows *r, int64_t t, int64_t times, int64_t i, int64_t n,
                               const uint8_t *masks, const bool inner, const bool halo,
                               const causal_conv1d_dtype dtype, const int W, const bool silu_on)
{
    const cc1d_sequence *s = &r->sequence;
    const uint8_t full = (1 << W) - 1;
    const int64_t d = r->tile->dim_begin + i;
    /* The first column to store: the tile's, or of the initial states. */
    const int64_t first =
        r->tile->time_begin == 0 && r->args->dinitial_states.dtype ? 1 - W : r->tile->time_begin;
    const char *x = at(&r->args->x, dtype, s->batch, d, s->start + t);
    const char *dout = at(&r->args->dout, dtype, s->batch, d, s->start + t);
    char *dx = at(&r->args->dx, dtype, s->batch, d, s->start + t);
    const bool sums_later = is_pair(dtype);
    /* Rows of fp32 that are read twice would not stay in the first-level cache. */
    const bool grouped = inner && silu_on && dtype != CAUSAL_CONV1D_FLOAT32;
    ALIGNED float gs[BACKWARD_BLOCK][MAX_VL];
    ALIGNED float derivative[BACKWARD_BLOCK * MAX_VL];
    vf w[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH], g[CC1D_MAX_WIDTH], sum[CC1D_MAX_WIDTH + 1];
    EACH (k, W + 1) {
        w[k] = vf_get(&r->rows[k][i], dtype);
        sum[k] = vf_get(&r->sum[k][i], dtype);
    }
    EACH (k, W - 1) g[k + 1] = vf_get(&r->g[k][i], dtype);
    load_window(tap, x, r->x_step, t, n, &r->states[0][i], dtype, W);
    if (grouped) {
        vf seen[CC1D_MAX_WIDTH];
        EACH (k, W) seen[k] = tap[k];
        for (int64_t j = 0; j < BACKWARD_BLOCK; j++) {
            EACH (k, W - 1) seen[k] = seen[k + 1];
            if (j < times) seen[W - 1] = vf_load(x + j * r->x_step, dtype, n);
            vf_put(derivative + j * vl(dtype), dtype, convolve(seen, w, W));
        }
        derivatives(derivative, (times + group(dtype) - 1) / group(dtype) * group(dtype), dtype);
    }
    for (int64_t j = 0; j < times; j++) {
        bool whole = true; /* every tap counts at the last W times */
        EACH (k, W - 1) tap[k] = tap[k + 1], g[k] = g[k + 1];
        g[W - 1] = vf_set(0);
        if (masks)
            for (int64_t u = t + j < W ? 0 : t + j - W + 1; u <= t + j && u < s->length; u++)
                whole = whole && masks[u] == full;
        if (!halo || t + j < s->length) {
            tap[W - 1] = vf_load(x + j * r->x_step, dtype, n);
            g[W - 1] = vf_load(dout + j * r->dout_step, dtype, n);
            __builtin_prefetch(x + (j + BACKWARD_BLOCK) * r->x_step, 0, 2);
            __builtin_prefetch(dout + (j + BACKWARD_BLOCK) * r->dout_step, 0, 2);
            vf seen[CC1D_MAX_WIDTH];
            if (whole)
                EACH (k, W) seen[k] = tap[k];
            else
                mask_window(seen, tap, masks[t + j], W);
            if (grouped)
                g[W - 1] = vf_mul(g[W - 1], vf_get(derivative + j * vl(dtype), dtype));
            else
                g[W - 1] = gradient(g[W - 1], seen, w, dtype, W, silu_on);
            if (!whole && !masks[t + j]) g[W - 1] = vf_set(0);
            if (!halo && !sums_later) accumulate(sum, g[W - 1], seen, W);
        }
        if (sums_later) vf_put(gs[j], dtype, g[W - 1]);
        const int64_t u = t + j - (W - 1);
        if (!inner && u < first) continue;
        vf v = vf_mul(w[W - 1], g[0]);
        if (whole) {
            EACH (k, W - 1) v = vf_fma(w[W - 2 - k], g[k + 1], v);
        } else {
            EACH (k, W - 1) {
                const int64_t later = u + k + 1;
                if (later < s->length && (later < 0 || masks[later] >> (W - 2 - k) & 1))
                    v = vf_fma(w[W - 2 - k], g[k + 1], v);
            }
        }
        if (inner || (u >= 0 && !(r->args->dfinal_states.dtype && final_column(s, u, W) >= 0)))
            vf_store(dx + (j - (W - 1)) * r->dx_step, dtype, v, n);
        else
            store_dx_dim(r, u, i, n, v, dtype, W);
    }
    EACH (k, W - 1) vf_put(&r->g[k][i], dtype, g[k + 1]);
    if (!halo && sums_later) sum_dim_block(r, x, gs, t, times, i, n, masks, dtype, W);
    if (!halo && !sums_later)
        EACH (k, W + 1) vf_put(&r->sum[k][i], dtype, sum[k]);
}

INLINE void backward_dim(const cc1d_args *args, const cc1d_tile *tile, float *partial,
                         const causal_conv1d_dtype dtype, const int W)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), dim = tile->dim_end - tile->dim_begin;
    const int VL = vl(dtype);
    dim_rows r;
    r.args = args, r.tile = tile;
    r.x_step = args->x.stride[2] * size, r.dout_step = args->dout.stride[2] * size;
    r.dx_step = args->dx.stride[2] * size;
    assert(dim <= CC1D_DIM_TILE);
    load_channels(&args->weight, &args->bias, tile->dim_begin, dim, W, is_pair(dtype), r.rows);
    clear_rows(r.sum, W + 1, dim);
    clear_rows(r.states, W - 1, dim);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        r.sequence = cc1d_sequence_at(args, b);
        const uint8_t *masks =
            args->masks ? args->masks + r.sequence.batch * r.sequence.length : NULL;
        int64_t length = r.sequence.length;
        int64_t tile_end = tile->time_end < length ? tile->time_end : length;
        if (tile->time_begin > 0 && tile->time_begin >= length) continue;
        load_states(args, &r.sequence, tile, dtype, W, r.states);
        clear_rows(r.g, W - 1, dim);
        for (int64_t t = tile->time_begin; t < tile_end + W - 1;) {
            const bool halo = t >= tile_end;
            int64_t end = halo ? tile_end + W - 1 : tile_end;
            int64_t times = end - t < BACKWARD_BLOCK ? end - t : BACKWARD_BLOCK, i = 0;
            const bool inner = !masks && !halo && t >= tile->time_begin + W - 1;
            for (; inner && i + VL <= dim; i += VL)
                backward_dim_block(&r, t, times, i, VL, NULL, true, false, dtype, W, args->silu);
            for (; i < dim; i += VL)
                backward_dim_block(&r, t, times, i, dim - i, masks, false, halo, dtype, W,
                                   args->silu);
            t += times;
        }
    }
    for (int k = 0; k <= W; k++)
        for (int64_t i = 0; i < dim; i++)
            partial[k * args->x.size[1] + tile->dim_begin + i] = r.sum[k][place(i, dtype)];
}
