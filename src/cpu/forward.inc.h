/* The forward algorithms over an ISA vocabulary.  dtype, W and silu_on are constants in every
 * instance.  Taps are added in the order k = 0..W-1, by fma, on the bias: as the scalar code. */

INLINE vf convolve(const vf *tap, const vf *w, const int W)
{
    vf v = w[W];
    EACH (k, W) v = vf_fma(w[k], tap[k], v);
    return v;
}

INLINE void load_or_part(vf *v, const char *p, causal_conv1d_dtype dtype, int64_t n)
{
    *v = n >= VL ? vf_load(p, dtype) : vf_load_n(p, dtype, (int)n);
}

INLINE void store_or_part(char *p, causal_conv1d_dtype dtype, vf v, int64_t n)
{
    if (n >= VL)
        vf_store(p, dtype, v);
    else
        vf_store_n(p, dtype, v, (int)n);
}

/* The taps of the vector cur, which follows prev in a row of time. */
INLINE void shift_taps(vf *tap, vf prev, vf cur, const int W)
{
    EACH (k, W) tap[k] = vf_shift(prev, cur, W - 1 - k);
}

/* The vector before time t of a row that starts at x. */
INLINE vf history(const char *x, causal_conv1d_dtype dtype, int64_t t)
{
    assert(t == 0 || t >= VL);
    return t ? vf_load(x + (t - VL) * (int64_t)cc1d_dtype_size(dtype), dtype) : vf_set(0);
}

/* Rows of time: each vector is loaded once and its taps are shifted out of it and the last. */
INLINE void forward_time(const causal_conv1d_forward_args *args, const cc1d_tile *tile,
                         const causal_conv1d_dtype dtype, const int W, const bool silu_on)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++)
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) {
            const char *x = at(&args->x, dtype, b, d, 0);
            char *out = at(&args->out, dtype, b, d, 0);
            float channel[CC1D_MAX_WIDTH + 1];
            vf w[CC1D_MAX_WIDTH + 1], prev = history(x, dtype, tile->time_begin);
            load_channel(&args->weight, &args->bias, d, W, channel);
            EACH (k, W + 1) w[k] = vf_set(channel[k]);
            for (int64_t t = tile->time_begin; t < tile->time_end; t += VL) {
                int64_t n = tile->time_end - t;
                vf cur, tap[CC1D_MAX_WIDTH];
                load_or_part(&cur, x + t * size, dtype, n);
                shift_taps(tap, prev, cur, W);
                vf v = convolve(tap, w, W);
                store_or_part(out + t * size, dtype, silu_on ? silu(v) : v, n);
                prev = cur;
            }
        }
}

/* The weights (rows 0..W-1) and bias (row W) of a tile's channels as rows of fp32, 0 behind. */
INLINE void load_channels(const tensor *weight, const tensor *bias, const cc1d_tile *tile,
                          const int W, float rows[][CC1D_DIM_TILE])
{
    int64_t n = tile->dim_end - tile->dim_begin;
    for (int64_t i = 0; i < n; i++) {
        float channel[CC1D_MAX_WIDTH + 1];
        load_channel(weight, bias, tile->dim_begin + i, W, channel);
        EACH (k, W + 1) rows[k][i] = channel[k];
    }
    for (; n % VL != 0; n++)
        for (int k = 0; k <= W; k++) rows[k][n] = 0;
}

/* Rows of channels: for BLOCK times at once, each vector of channels keeps its window of the
 * last W rows in registers. */
INLINE void forward_dim_block(const char *x, int64_t x_step, char *out, int64_t out_step, int64_t t,
                              int64_t times, int64_t n, const float *rows,
                              const causal_conv1d_dtype dtype, const int W, const bool silu_on)
{
    vf w[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH];
    EACH (k, W + 1) w[k] = vf_load(rows + k * CC1D_DIM_TILE, CAUSAL_CONV1D_FLOAT32);
    EACH (k, W - 1) {
        tap[k + 1] = vf_set(0);
        if (t + k >= W - 1) load_or_part(&tap[k + 1], x + (k - (W - 1)) * x_step, dtype, n);
    }
    for (int64_t i = 0; i < times; i++) {
        EACH (k, W - 1) tap[k] = tap[k + 1];
        load_or_part(&tap[W - 1], x + i * x_step, dtype, n);
        vf v = convolve(tap, w, W);
        store_or_part(out + i * out_step, dtype, silu_on ? silu(v) : v, n);
    }
}

INLINE void forward_dim(const causal_conv1d_forward_args *args, const cc1d_tile *tile,
                        const causal_conv1d_dtype dtype, const int W, const bool silu_on)
{
    enum { BLOCK = 8 };
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), dim = tile->dim_end - tile->dim_begin;
    const int64_t x_step = args->x.stride[2] * size, out_step = args->out.stride[2] * size;
    float rows[CC1D_MAX_WIDTH + 1][CC1D_DIM_TILE];
    assert(dim <= CC1D_DIM_TILE);
    load_channels(&args->weight, &args->bias, tile, W, rows);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++)
        for (int64_t t = tile->time_begin; t < tile->time_end; t += BLOCK) {
            const char *x = at(&args->x, dtype, b, tile->dim_begin, t);
            char *out = at(&args->out, dtype, b, tile->dim_begin, t);
            int64_t times = tile->time_end - t < BLOCK ? tile->time_end - t : BLOCK, i = 0;
            for (; i + VL <= dim; i += VL)
                forward_dim_block(x + i * size, x_step, out + i * size, out_step, t, times, VL,
                                  &rows[0][i], dtype, W, silu_on);
            if (i < dim)
                forward_dim_block(x + i * size, x_step, out + i * size, out_step, t, times, dim - i,
                                  &rows[0][i], dtype, W, silu_on);
        }
}
