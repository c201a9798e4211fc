/* The backward algorithms over an ISA vocabulary, in one pass over x, dout and dx.  With g the
 * gradient of the preactivation, g = dout * silu'(v) or dout:
 *   dx[t] = sum_k w[k] g[t+W-1-k],  dw[k] = sum_t g[t] x[t-(W-1)+k],  dbias = sum_t g[t]
 * dx runs W-1 times behind g.  Beyond a tile's last time g is recomputed, not summed. */

INLINE vf gradient(vf dout, const vf *tap, const vf *w, const int W, const bool silu_on)
{
    return silu_on ? vf_mul(dout, silu_derivative(convolve(tap, w, W))) : dout;
}

/* Adds g * tap[k] to sum[k], g to sum[W]. */
INLINE void accumulate(vf *sum, vf g, const vf *tap, const int W)
{
    EACH (k, W) sum[k] = vf_fma(g, tap[k], sum[k]);
    sum[W] = vf_add(sum[W], g);
}

/* dx of the vector whose gradients are g, followed by those of next. */
INLINE vf dx_time(vf g, vf next, const vf *w, const int W)
{
    vf dx = vf_mul(w[W - 1], g);
    EACH (j, W - 1) dx = vf_fma(w[W - 2 - j], vf_shift(g, next, VL - 1 - j), dx);
    return dx;
}

/* g of the n times from t on (lanes beyond are 0), its taps in tap. */
INLINE vf gradient_time(const char *x, const char *dout, vf prev, vf *cur, vf *tap, int64_t n,
                        const vf *w, const causal_conv1d_dtype dtype, const int W,
                        const bool silu_on)
{
    vf g;
    load_or_part(cur, x, dtype, n);
    load_or_part(&g, dout, dtype, n);
    shift_taps(tap, prev, *cur, W);
    g = gradient(g, tap, w, W, silu_on);
    if (n < VL) { /* 0 * Inf must not reach the sums from lanes that do not exist */
        g = vf_keep(g, (int)n);
        EACH (k, W) tap[k] = vf_keep(tap[k], (int)n);
    }
    return g;
}

INLINE void backward_time(const causal_conv1d_backward_args *args, const cc1d_tile *tile,
                          float *partial, const causal_conv1d_dtype dtype, const int W,
                          const bool silu_on)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    const int64_t dim = args->x.size[1], seqlen = args->x.size[2], end = tile->time_end;
    for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) {
        float channel[CC1D_MAX_WIDTH + 1];
        vf w[CC1D_MAX_WIDTH + 1], sum[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH];
        load_channel(&args->weight, &args->bias, d, W, channel);
        EACH (k, W + 1) w[k] = vf_set(channel[k]), sum[k] = vf_set(0);
        for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
            const char *x = at(&args->x, dtype, b, d, 0);
            const char *dout = at(&args->dout, dtype, b, d, 0);
            char *dx = at(&args->dx, dtype, b, d, 0);
            int64_t t = tile->time_begin;
            vf prev = history(x, dtype, t), g = vf_set(0), next = vf_set(0), cur;
            for (; t < end; t += VL) {
                next = gradient_time(x + t * size, dout + t * size, prev, &cur, tap, end - t, w,
                                     dtype, W, silu_on);
                accumulate(sum, next, tap, W);
                if (t > tile->time_begin)
                    vf_store(dx + (t - VL) * size, dtype, dx_time(g, next, w, W));
                prev = cur, g = next;
            }
            next = vf_set(0);
            if (end < seqlen)
                next = gradient_time(x + end * size, dout + end * size, prev, &cur, tap,
                                     seqlen - end, w, dtype, W, silu_on);
            store_or_part(dx + (t - VL) * size, dtype, dx_time(g, next, w, W), end - (t - VL));
        }
        EACH (k, W + 1) partial[k * dim + d] = vf_sum(sum[k]);
    }
}

/* The state that a vector of channels carries from one block of times to the next: the last
 * W-1 rows of g, and the sums. */
typedef struct dim_state {
    float g[CC1D_MAX_WIDTH - 1][CC1D_DIM_TILE];
    float sum[CC1D_MAX_WIDTH + 1][CC1D_DIM_TILE];
} dim_state;

/* Times [t, t + times) of one vector of n channels.  x, dout and dx point at time t; dx is
 * stored from time first on.  After a tile's last time (halo) nothing is summed, and past
 * time seqlen g is 0. */
INLINE void backward_dim_block(const char *x, int64_t x_step, const char *dout, int64_t dout_step,
                               char *dx, int64_t dx_step, int64_t t, int64_t times, int64_t first,
                               int64_t seqlen, int64_t n, const float *rows, dim_state *state,
                               int64_t i, const bool halo, const causal_conv1d_dtype dtype,
                               const int W, const bool silu_on)
{
    const causal_conv1d_dtype f32 = CAUSAL_CONV1D_FLOAT32;
    vf w[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH], g[CC1D_MAX_WIDTH], sum[CC1D_MAX_WIDTH + 1];
    EACH (k, W + 1) {
        w[k] = vf_load(rows + k * CC1D_DIM_TILE + i, f32);
        sum[k] = vf_load(&state->sum[k][i], f32);
    }
    EACH (k, W - 1) {
        g[k + 1] = vf_load(&state->g[k][i], f32);
        tap[k + 1] = vf_set(0);
        if (t + k >= W - 1) load_or_part(&tap[k + 1], x + (k - (W - 1)) * x_step, dtype, n);
    }
    for (int64_t j = 0; j < times; j++) {
        EACH (k, W - 1) tap[k] = tap[k + 1], g[k] = g[k + 1];
        g[W - 1] = vf_set(0);
        if (!halo || t + j < seqlen) {
            load_or_part(&tap[W - 1], x + j * x_step, dtype, n);
            load_or_part(&g[W - 1], dout + j * dout_step, dtype, n);
            g[W - 1] = gradient(g[W - 1], tap, w, W, silu_on);
            if (!halo) accumulate(sum, g[W - 1], tap, W);
        }
        if (t + j - (W - 1) < first) continue;
        vf v = vf_mul(w[W - 1], g[0]);
        EACH (k, W - 1) v = vf_fma(w[W - 2 - k], g[k + 1], v);
        store_or_part(dx + (j - (W - 1)) * dx_step, dtype, v, n);
    }
    EACH (k, W + 1) vf_store(&state->sum[k][i], f32, sum[k]);
    EACH (k, W - 1) vf_store(&state->g[k][i], f32, g[k + 1]);
}

INLINE void backward_dim(const causal_conv1d_backward_args *args, const cc1d_tile *tile,
                         float *partial, const causal_conv1d_dtype dtype, const int W,
                         const bool silu_on)
{
    enum { BLOCK = 16 };
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), dim = tile->dim_end - tile->dim_begin;
    const int64_t x_step = args->x.stride[2] * size, dout_step = args->dout.stride[2] * size,
                  dx_step = args->dx.stride[2] * size, seqlen = args->x.size[2];
    float rows[CC1D_MAX_WIDTH + 1][CC1D_DIM_TILE];
    dim_state state;
    assert(dim <= CC1D_DIM_TILE);
    load_channels(&args->weight, &args->bias, tile, W, rows);
    memset(state.sum, 0, sizeof state.sum);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        memset(state.g, 0, sizeof state.g);
        for (int64_t t = tile->time_begin; t < tile->time_end + W - 1;) {
            const bool halo = t >= tile->time_end;
            int64_t end = halo ? tile->time_end + W - 1 : tile->time_end;
            int64_t times = end - t < BLOCK ? end - t : BLOCK;
            const char *x = at(&args->x, dtype, b, tile->dim_begin, t);
            const char *dout = at(&args->dout, dtype, b, tile->dim_begin, t);
            char *dx = at(&args->dx, dtype, b, tile->dim_begin, t);
#define BLOCK_OF(n, halo)                                                                          \
    backward_dim_block(x + i * size, x_step, dout + i * size, dout_step, dx + i * size, dx_step,   \
                       t, times, tile->time_begin, seqlen, n, &rows[0][0], &state, i, halo, dtype, \
                       W, silu_on)
            for (int64_t i = 0; i < dim; i += VL) {
                if (halo)
                    BLOCK_OF(dim - i, true);
                else if (dim - i < VL)
                    BLOCK_OF(dim - i, false);
                else
                    BLOCK_OF(VL, false);
            }
#undef BLOCK_OF
            t += times;
        }
    }
    for (int k = 0; k <= W; k++)
        memcpy(partial + k * args->x.size[1] + tile->dim_begin, state.sum[k],
               (size_t)dim * sizeof(float));
}
