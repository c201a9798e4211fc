/* Rows of a few columns in memory, as a register for every column: how the update meets its states,
 * and the channels-last kernels their weights. */

/* `count` rows of n channels become 0, up to whole vectors of any kind. */
INLINE void clear_rows(float rows[][ROW], int count, int64_t n)
{
    for (int k = 0; k < count; k++)
        memset(rows[k], 0, (size_t)((n + MAX_VL - 1) / MAX_VL * MAX_VL) * sizeof(float));
}

/* Halves every one of the streams of `stride` registers each that v[0..n) is made of, into its
 * elements of even and of odd place. */
INLINE void unzip_streams(vr *v, const int n, const int stride)
{
    vr t[CC1D_MAX_WIDTH];
    EACH (i, n / 2) {
        const int stream = 2 * i / stride * stride, k = i % (stride / 2);
        vr_unzip(v[2 * i], v[2 * i + 1], &t[stream + k], &t[stream + stride / 2 + k]);
    }
    EACH (i, n) v[i] = t[i];
}

/* The registers v[0..n), a row of LANES * n elements, become the n columns of the LANES x n matrix
 * that the row is.  It is split into even and odd columns while their number is even; of the odd
 * number that is left each column is picked by a permutation. */
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

/* The LANES rows [columns] at p, of which those from n on count as 0 and are not read. */
INLINE void load_columns(const char *p, const causal_conv1d_dtype dtype, int64_t n,
                         const int columns, vr *column)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), step = LANES * size;
    char rows[LANES * CC1D_MAX_WIDTH * sizeof(float)];
    if (n < LANES) {
        memset(rows, 0, (size_t)(columns * step));
        if (n > 0) memcpy(rows, p, (size_t)(n * columns * size));
        p = rows;
    }
#if BF16_PAIRS /* columns 2j and 2j+1 are one of 32 bits until the end */
    if (dtype == CAUSAL_CONV1D_BFLOAT16 && columns % 2 == 0) {
        vr v[CC1D_MAX_WIDTH / 2];
        EACH (i, columns / 2) v[i] = vr_load(p + 2 * i * step, CAUSAL_CONV1D_FLOAT32);
        deinterleave(v, columns / 2);
        EACH (j, columns / 2) vr_split_bf16(v[j], &column[2 * j], &column[2 * j + 1]);
        return;
    }
#endif
    EACH (i, columns) column[i] = vr_load(p + i * step, dtype);
    deinterleave(column, columns);
}

/* Whether the rows of `columns` elements of weight or bias lie as load_columns takes them. */
INLINE bool is_packed(const tensor *t, int columns)
{
    return t->stride[0] == columns && (columns == 1 || t->stride[1] == 1);
}

/* The columns of weight or bias, of any dtype and strides, for LANES channels from d on, of which
 * those from n on are 0. */
INLINE void load_parameter(const tensor *t, int64_t d, int64_t n, const int columns, vr *column)
{
    const char *p = (const char *)t->data + d * t->stride[0] * (int64_t)cc1d_dtype_size(t->dtype);
    const bool packed = is_packed(t, columns);
    float rows[LANES * CC1D_MAX_WIDTH];
    if (packed && t->dtype == CAUSAL_CONV1D_BFLOAT16) {
        load_columns(p, CAUSAL_CONV1D_BFLOAT16, n, columns, column);
    } else if (packed && t->dtype == CAUSAL_CONV1D_FLOAT16) {
        load_columns(p, CAUSAL_CONV1D_FLOAT16, n, columns, column);
    } else {
        if (!packed || t->dtype != CAUSAL_CONV1D_FLOAT32) {
            if (n > LANES) n = LANES;
            for (int64_t i = 0; i < n * columns; i++)
                rows[i] =
                    load_float(t, (d + i / columns) * t->stride[0] + i % columns * t->stride[1]);
            p = (const char *)rows;
        }
        load_columns(p, CAUSAL_CONV1D_FLOAT32, n, columns, column);
    }
}

/* `columns` columns of t for n channels from d on as rows of fp32, up to a multiple of LANES. */
INLINE void load_rows_of(const tensor *t, int64_t d, int64_t n, const int columns,
                         float rows[][ROW])
{
    for (int64_t i = 0; i < n; i += LANES) {
        vr column[CC1D_MAX_WIDTH];
        load_parameter(t, d + i, n - i, columns, column);
        EACH (k, columns) vr_store(rows[k] + i, CAUSAL_CONV1D_FLOAT32, column[k]);
    }
}

/* The weights (rows 0..W-1) and bias (row W) of n channels from d on as rows of fp32, 0 behind, in
 * the order of the lanes of pairs or of memory.  One function for all dtypes: its code is long. */
static __attribute__((noinline)) void load_channels(const tensor *weight, const tensor *bias,
                                                    int64_t d, int64_t n, int width, bool pairs,
                                                    float rows[][ROW])
{
    const causal_conv1d_dtype f32 = CAUSAL_CONV1D_FLOAT32;
    if (n % (2 * LANES) != 0)
        for (int k = 0; k <= width; k++)
            memset(rows[k] + n / (2 * LANES) * (2 * LANES), 0, 2 * LANES * sizeof(float));
    switch (width) {
#define CASE(W) \
    case W: load_rows_of(weight, d, n, W, rows); break;
        CC1D_WIDTHS(CASE)
#undef CASE
    }
    if (bias->dtype)
        load_rows_of(bias, d, n, 1, rows + width);
    else
        clear_rows(rows + width, 1, n);
    for (int k = 0; pairs && k <= width; k++)
        for (float *row = rows[k]; row < rows[k] + n; row += 2 * LANES) {
            vr even, odd;
            vr_unzip(vr_load(row, f32), vr_load(row + LANES, f32), &even, &odd);
            vr_store(row, f32, even);
            vr_store(row + LANES, f32, odd);
        }
}
