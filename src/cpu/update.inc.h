/* One step of decoding over an ISA vocabulary: T = 1, channels contiguous in x and out, states of L
 * = W or W-1 columns, which or whose channels are contiguous.  One pass: a vector of channels reads
 * its states, taps and input, writes its output, moves its states on by one column.  Taps are added
 * as in the forward. */

/* The first n of LANES rows [L] at p lose their first column and get x as their last. */
INLINE void move_on(char *p, const char *x, int64_t n, const causal_conv1d_dtype dtype, const int L)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    if (n >= LANES) {
        vr_move_on(p, x, (int)size, L);
        return;
    }
    if (L > 1) memmove(p, p + size, (size_t)((n * L - 1) * size));
    for (int64_t i = 0; i < n; i++) memcpy(p + ((i + 1) * L - 1) * size, x + i * size, size);
}

/* n <= LANES channels of L columns that lie `step` bytes apart, whose channels are contiguous. */
INLINE void load_apart(const char *p, int64_t step, int64_t n, const causal_conv1d_dtype dtype,
                       const int L, vr *column)
{
    EACH (k, L)
        column[k] =
            n < LANES ? vr_load_n(p + k * step, dtype, (int)n) : vr_load(p + k * step, dtype);
}

/* The same move on by a column and get x as their last: bytes, which no conversion touches. */
INLINE void move_on_apart(char *p, int64_t step, const char *x, int64_t n,
                          const causal_conv1d_dtype dtype, const int L)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    EACH (k, L) {
        const char *from = k < L - 1 ? p + (k + 1) * step : x;
        if (n >= LANES)
            memcpy(p + k * step, from, (size_t)(LANES * size));
        else
            memcpy(p + k * step, from, (size_t)(n * size));
    }
}

/* A row of the batch.  rows has the weights and biases of the tile's channels, or is NULL: then
 * they are as load_columns takes them. */
INLINE void update_row(const cc1d_args *args, const cc1d_tile *tile, int64_t b, float rows[][ROW],
                       const causal_conv1d_dtype dtype, const int W, const int L)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype);
    const char *weight = (char *)args->weight.data + tile->dim_begin * W * size;
    const char *bias = args->bias.dtype ? (char *)args->bias.data + tile->dim_begin * size : NULL;
    const int64_t state = cc1d_sequence_at(args, b).state, dim = tile->dim_end - tile->dim_begin;
    const char *x = at(&args->x, dtype, b, tile->dim_begin, 0);
    char *out = at(&args->out, dtype, b, tile->dim_begin, 0);
    const bool apart = args->states.stride[1] == 1 && L > 1;
    const int64_t step = args->states.stride[2] * size;
    char *rest = state < 0 ? NULL : at(&args->states, dtype, state, tile->dim_begin, 0);
    for (int64_t i = 0; i < dim; i += GROUP * LANES) {
        ALIGNED float values[GROUP * LANES];
        vr v[GROUP];
        EACH (j, GROUP) vr_store(values + j * LANES, CAUSAL_CONV1D_FLOAT32, vr_set(0));
        for (int64_t d = i; state >= 0 && d < i + GROUP * LANES && d < dim; d += LANES) {
            const int64_t n = dim - d < LANES ? dim - d : LANES;
            const char *here = x + d * size;
            vr column[CC1D_MAX_WIDTH + 1], w[CC1D_MAX_WIDTH + 1];
            if (apart)
                load_apart(rest, step, n, dtype, L, column);
            else
                load_columns(rest, dtype, n, L, column);
            column[L] = n < LANES ? vr_load_n(here, dtype, (int)n) : vr_load(here, dtype);
            if (rows) {
                EACH (k, W + 1) w[k] = vr_load(rows[k] + d, CAUSAL_CONV1D_FLOAT32);
            } else {
                load_columns(weight + d * W * size, dtype, n, W, w);
                w[W] = vr_set(0);
                if (bias) load_columns(bias + d * size, dtype, n, 1, w + W);
            }
            EACH (k, W) w[W] = vr_fma(w[k], column[L - (W - 1) + k], w[W]);
            vr_store(values + (d - i), CAUSAL_CONV1D_FLOAT32, w[W]);
            if (apart)
                move_on_apart(rest, step, here, n, dtype, L);
            else
                move_on(rest, here, n, dtype, L);
            rest += (apart ? 1 : L) * n * size;
        }
        EACH (j, GROUP) v[j] = vr_load(values + j * LANES, CAUSAL_CONV1D_FLOAT32);
        if (args->silu) silu_of(v, GROUP, dtype); /* 0 where there is no state */
        EACH (j, GROUP) {
            const int64_t d = i + j * LANES;
            char *there = out + d * size;
            if (d + LANES <= dim)
                vr_store(there, dtype, v[j]);
            else if (d < dim)
                vr_store_n(there, dtype, v[j], (int)(dim - d));
        }
    }
}

INLINE void update_dim(const cc1d_args *args, const cc1d_tile *tile,
                       const causal_conv1d_dtype dtype, const int W)
{
    ALIGNED float rows[CC1D_MAX_WIDTH + 1][ROW];
    const tensor *weight = &args->weight, *bias = &args->bias;
    /* Rows pay when used more than once. */
    const bool direct = tile->batch_end - tile->batch_begin == 1 && weight->dtype == dtype &&
                        is_packed(weight, W) &&
                        (!bias->dtype || (bias->dtype == dtype && is_packed(bias, 1)));
    if (!direct)
        load_channels(weight, bias, tile->dim_begin, tile->dim_end - tile->dim_begin, W, false,
                      rows);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        if (args->states.size[2] == W)
            update_row(args, tile, b, direct ? NULL : rows, dtype, W, W);
        else if (W > 1) /* else a state has no column, and one_pass() says no */
            update_row(args, tile, b, direct ? NULL : rows, dtype, W, W - 1);
    }
}
