/* One step of decoding over an ISA vocabulary: T = 1, channels contiguous in x and out, states of L
 * = W or W-1 contiguous columns.  One pass: a vector of channels reads its states, taps and input,
 * writes its output and the states moved on by one column.  Taps are added as in the forward. */

/* The n <= VL rows [n][columns] at p, as `columns` vectors over the rows; lanes beyond are 0. */
INLINE void load_columns(const char *p, causal_conv1d_dtype dtype, int64_t n, const int columns,
                         vf *column)
{
    if (columns == 4 && n >= VL) {
        vf_load4(p, dtype, column);
        return;
    }
    float rows[CC1D_MAX_WIDTH][VL] = {{0}};
    for (int64_t i = 0; i < n; i++)
        EACH (j, columns)
            rows[j][i] =
                load_scalar(p + (i * columns + j) * (int64_t)cc1d_dtype_size(dtype), dtype);
    EACH (j, columns) column[j] = vf_order(vf_load(rows[j], CAUSAL_CONV1D_FLOAT32));
}

INLINE void store_columns(char *p, causal_conv1d_dtype dtype, int64_t n, const int columns,
                          const vf *column)
{
    if (columns == 4 && n >= VL) {
        vf_store4(p, dtype, column);
        return;
    }
    float rows[CC1D_MAX_WIDTH][VL];
    EACH (j, columns) vf_store(rows[j], CAUSAL_CONV1D_FLOAT32, vf_unorder(column[j]));
    for (int64_t i = 0; i < n; i++)
        EACH (j, columns)
            store_scalar(p + (i * columns + j) * (int64_t)cc1d_dtype_size(dtype), dtype,
                         rows[j][i]);
}

/* Weights and bias of the n channels from d on, of any dtype and strides. */
INLINE void load_taps(const cc1d_args *args, int64_t d, int64_t n, const int W, vf *w)
{
    const tensor *weight = &args->weight, *bias = &args->bias;
    const causal_conv1d_dtype dtype = weight->dtype;
    const bool packed = weight->stride[1] == 1 && weight->stride[0] == W;
    if (packed && dtype == CAUSAL_CONV1D_FLOAT32) {
        load_columns(at(weight, dtype, d, 0, 0), CAUSAL_CONV1D_FLOAT32, n, W, w);
    } else if (packed && dtype == CAUSAL_CONV1D_BFLOAT16) {
        load_columns(at(weight, dtype, d, 0, 0), CAUSAL_CONV1D_BFLOAT16, n, W, w);
    } else {
        float rows[CC1D_MAX_WIDTH][VL] = {{0}};
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < W; k++)
                rows[k][i] =
                    load_float(weight, (d + i) * weight->stride[0] + k * weight->stride[1]);
        EACH (k, W) w[k] = vf_order(vf_load(rows[k], CAUSAL_CONV1D_FLOAT32));
    }
    if (bias->dtype == CAUSAL_CONV1D_FLOAT32 && bias->stride[0] == 1) {
        load_or_part(&w[W], at(bias, bias->dtype, d, 0, 0), CAUSAL_CONV1D_FLOAT32, n);
    } else if (bias->dtype == CAUSAL_CONV1D_BFLOAT16 && bias->stride[0] == 1) {
        load_or_part(&w[W], at(bias, bias->dtype, d, 0, 0), CAUSAL_CONV1D_BFLOAT16, n);
    } else {
        float row[VL] = {0};
        for (int64_t i = 0; bias->dtype && i < n; i++)
            row[i] = load_float(bias, (d + i) * bias->stride[0]);
        w[W] = vf_load(row, CAUSAL_CONV1D_FLOAT32);
    }
    w[W] = vf_order(w[W]);
}

INLINE void update_row(const cc1d_args *args, const cc1d_tile *tile, int64_t b,
                       const causal_conv1d_dtype dtype, const int W, const int L)
{
    const int64_t state = cc1d_sequence_at(args, b).state;
    for (int64_t d = tile->dim_begin; d < tile->dim_end; d += VL) {
        const int64_t n = tile->dim_end - d < VL ? tile->dim_end - d : VL;
        vf w[CC1D_MAX_WIDTH + 1], column[CC1D_MAX_WIDTH + 1], v = vf_set(0);
        if (state >= 0) {
            char *p = at(&args->states, dtype, state, d, 0);
            load_columns(p, dtype, n, L, column);
            load_or_part(&column[L], at(&args->x, dtype, b, d, 0), dtype, n);
            column[L] = vf_order(column[L]);
            load_taps(args, d, n, W, w);
            v = convolve(column + L - (W - 1), w, W);
            if (args->silu) v = silu(v);
            store_columns(p, dtype, n, L, column + 1);
        }
        store_or_part(at(&args->out, dtype, b, d, 0), dtype, vf_unorder(v), n);
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
