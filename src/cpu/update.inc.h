/* One step of decoding over an ISA vocabulary: T = 1, channels contiguous in x and out, states of L
 * = W or W-1 contiguous columns.  One pass: a vector of channels reads its states, taps and input,
 * writes its output, moves its states on by one column.  Taps are added as in the forward. */

/* Halves every one of the streams of `stride` registers each that v[0..n) is made of, into its
 * elements of even and of odd place. */
INLINE void unzip_streams(vr *v, const int n, const int stride)
{
    vr t[2 * CC1D_MAX_WIDTH];
    EACH (i, n / 2) {
        const int stream = 2 * i / stride * stride, k = i % (stride / 2);
        vr_unzip(v[2 * i], v[2 * i + 1], &t[stream + k], &t[stream + stride / 2 + k]);
    }
    EACH (i, n) v[i] = t[i];
}

/* The registers v[0..n), a row of LANES * n elements, become the n columns of the LANES x n matrix
 * that the row is: halved as often as n is even, then picked from the odd rest. */
INLINE void deinterleave(vr *v, const int n)
{
    const int streams = n & -n, odd = n / streams;
    vr t[CC1D_MAX_WIDTH];
    if (streams >= 2) unzip_streams(v, n, n);
    if (streams >= 4) unzip_streams(v, n, n / 2);
    if (streams >= 8) unzip_streams(v, n, n / 4);
    EACH (j, n) {
        const int low = j % streams; /* its bits, reversed, number the stream that has column j */
        const int stream = streams >= 8   ? (low & 1) * 4 + (low & 2) + low / 4
                           : streams >= 4 ? low % 2 * 2 + low / 2
                                          : low;
        const vr *from = v + stream * odd;
        t[j] = odd == 1 ? from[0] : vr_pick(from, odd, j / streams);
    }
    EACH (j, n) v[j] = t[j];
}

/* The rows [n][columns] at p, of dtype `source`, as `columns` vectors over the rows in the order
 * of the lanes of `dtype`; rows from n on are 0. */
INLINE void load_columns(const char *p, const causal_conv1d_dtype source, int64_t n,
                         const causal_conv1d_dtype dtype, const int columns, vf *column)
{
    const int64_t size = (int64_t)cc1d_dtype_size(source), VL = vl(dtype), step = LANES * size;
    char rows[MAX_VL * CC1D_MAX_WIDTH * sizeof(float)];
    if (n < VL) {
        memset(rows, 0, (size_t)(VL * columns * size));
        memcpy(rows, p, (size_t)(n * columns * size));
        p = rows;
    }
    vr v[2 * CC1D_MAX_WIDTH];
    if (!is_pair(dtype)) {
        EACH (i, columns) v[i] = vr_load(p + i * step, source);
        deinterleave(v, columns);
        EACH (j, columns) column[j] = (vf){v[j], vr_set(0)};
        return;
    }
    /* Channels 2c and 2c+1 as one row of 2 * columns: its columns of even place, then of odd. */
#if BF16_PAIRS
    EACH (i, columns) {
        if (source == CAUSAL_CONV1D_BFLOAT16)
            vr_load_bf16(p + 2 * i * step, &v[i], &v[columns + i]);
        else
            vr_unzip(vr_load(p + 2 * i * step, source), vr_load(p + (2 * i + 1) * step, source),
                     &v[i], &v[columns + i]);
    }
#endif
    deinterleave(v, columns);
    deinterleave(v + columns, columns);
    EACH (j, columns) {
        const int k = columns + j;
        column[j] = (vf){v[j % 2 * columns + j / 2], v[k % 2 * columns + k / 2]};
    }
}

/* Columns of weight or bias, of any dtype and strides, for the n channels from d on. */
INLINE void load_parameter(const tensor *t, int64_t d, int64_t n, const causal_conv1d_dtype dtype,
                           const int columns, vf *column)
{
    const char *p = (const char *)t->data + d * t->stride[0] * (int64_t)cc1d_dtype_size(t->dtype);
    const bool packed = t->stride[0] == columns && (columns == 1 || t->stride[1] == 1);
    if (packed && t->dtype == CAUSAL_CONV1D_FLOAT32) {
        load_columns(p, CAUSAL_CONV1D_FLOAT32, n, dtype, columns, column);
    } else if (packed && t->dtype == CAUSAL_CONV1D_BFLOAT16) {
        load_columns(p, CAUSAL_CONV1D_BFLOAT16, n, dtype, columns, column);
    } else if (packed && t->dtype == CAUSAL_CONV1D_FLOAT16) {
        load_columns(p, CAUSAL_CONV1D_FLOAT16, n, dtype, columns, column);
    } else {
        float rows[MAX_VL * CC1D_MAX_WIDTH];
        n = n < vl(dtype) ? n : vl(dtype);
        for (int64_t i = 0; t->dtype && i < n * columns; i++)
            rows[i] = load_float(t, (d + i / columns) * t->stride[0] + i % columns * t->stride[1]);
        load_columns((char *)rows, CAUSAL_CONV1D_FLOAT32, t->dtype ? n : 0, dtype, columns, column);
    }
}

/* The rows [n][L] at p lose their first column and get x as their last: everything moves by one
 * element, then x is put in its places. */
INLINE void move_on(char *p, const char *x, int64_t n, const causal_conv1d_dtype dtype, const int L)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), bytes = n * L * size, step = 2 * LANES;
    char *last = p + bytes - step;
    if (n < vl(dtype)) {
        memmove(p, p + size, (size_t)(bytes - size));
        for (int64_t i = 0; i < n; i++) memcpy(p + ((i + 1) * L - 1) * size, x + i * size, size);
        return;
    }
    EACH (i, vl(dtype) * L * size / step - 1) vr_copy(p + i * step, p + i * step + size);
    if (L > 1) vr_copy(last - size, last);
    for (int64_t i = 0; i < vl(dtype); i += 8, p += 8 * L * size, x += 8 * size)
        EACH (j, 8) memcpy(p + ((j + 1) * L - 1) * size, x + j * size, size);
}

/* The convolution before the activation for n channels from d on, and the state's move. */
INLINE vf update_step(const cc1d_args *args, int64_t b, int64_t state, int64_t d, int64_t n,
                      const causal_conv1d_dtype dtype, const int W, const int L)
{
    vf w[CC1D_MAX_WIDTH + 1], column[CC1D_MAX_WIDTH + 1];
    char *p = at(&args->states, dtype, state, d, 0);
    const char *x = at(&args->x, dtype, b, d, 0);
    load_columns(p, dtype, n, dtype, L, column);
    column[L] = vf_load(x, dtype, n);
    load_parameter(&args->weight, d, n, dtype, W, w);
    load_parameter(&args->bias, d, n, dtype, 1, w + W);
    move_on(p, x, n, dtype, L);
    return convolve(column + L - (W - 1), w, W);
}

INLINE void update_row(const cc1d_args *args, const cc1d_tile *tile, int64_t b,
                       const causal_conv1d_dtype dtype, const int W, const int L)
{
    const int64_t state = cc1d_sequence_at(args, b).state, VL = vl(dtype), G = group(dtype);
    for (int64_t d = tile->dim_begin; d < tile->dim_end; d += G * VL) {
        const int64_t left = tile->dim_end - d;
        float values[GROUP * LANES];
        vf v[GROUP];
        EACH (i, G) vf_put(values + i * VL, dtype, vf_set(0));
        for (int64_t i = 0; state >= 0 && i < G && i * VL < left; i++) {
            const int64_t n = left - i * VL < VL ? left - i * VL : VL;
            vf_put(values + i * VL, dtype, update_step(args, b, state, d + i * VL, n, dtype, W, L));
        }
        EACH (i, G) v[i] = vf_get(values + i * VL, dtype);
        if (args->silu) silu(v, G, dtype, false); /* 0 where there is no state */
        EACH (i, G) {
            if (i * VL < left)
                vf_store(at(&args->out, dtype, b, d + i * VL, 0), dtype, v[i], left - i * VL);
        }
    }
}

INLINE void update_dim(const cc1d_args *args, const cc1d_tile *tile,
                       const causal_conv1d_dtype dtype, const int W)
{
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        if (args->states.size[2] == W)
            update_row(args, tile, b, dtype, W, W);
        else
            update_row(args, tile, b, dtype, W, W - 1);
    }
}
