/* The scalar forward and backward, in REAL arithmetic.  Included twice by scalar.c. */

static REAL NAME(load)(const tensor *t, int64_t offset)
{
    return (REAL)cc1d_load(t->data, t->dtype, offset);
}

/* max(v, -LIMIT), so that the limits at infinity are met; a NaN stays one. */
static REAL NAME(above)(REAL v)
{
    return v < -LIMIT ? -LIMIT : v;
}

static REAL NAME(silu)(REAL v)
{
    v = NAME(above)(v);
    return v / (1 + EXP(-v));
}

static REAL NAME(silu_derivative)(REAL v)
{
    v = -NAME(above)(-NAME(above)(v));
    REAL e = EXP(-v);
    return (1 + v * e / (1 + e)) / (1 + e);
}

/* The convolution before the activation at (b,d,t), taps in the order k = 0..W-1. */
static REAL NAME(preactivation)(const tensor *x, const tensor *weight, const tensor *bias,
                                int64_t b, int64_t d, int64_t t)
{
    int64_t width = weight->size[1];
    REAL v = bias->dtype ? NAME(load)(bias, d * bias->stride[0]) : 0;
    for (int64_t k = 0; k < width; k++) {
        int64_t s = t - (width - 1) + k;
        REAL w = NAME(load)(weight, d * weight->stride[0] + k * weight->stride[1]);
        REAL tap =
            s < 0 ? 0 : NAME(load)(x, b * x->stride[0] + d * x->stride[1] + s * x->stride[2]);
        v = FMA(w, tap, v);
    }
    return v;
}

static void NAME(forward)(const causal_conv1d_forward_args *args, const cc1d_tile *tile)
{
    const tensor *out = &args->out;
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++)
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++)
            for (int64_t t = tile->time_begin; t < tile->time_end; t++) {
                REAL v = NAME(preactivation)(&args->x, &args->weight, &args->bias, b, d, t);
                cc1d_store(out->data, out->dtype,
                           b * out->stride[0] + d * out->stride[1] + t * out->stride[2],
                           args->silu ? NAME(silu)(v) : v);
            }
}

/* The gradient with respect to the preactivation at (b,d,t). */
static REAL NAME(gradient)(const causal_conv1d_backward_args *args, int64_t b, int64_t d, int64_t t)
{
    const tensor *dout = &args->dout;
    REAL g = NAME(load)(dout, b * dout->stride[0] + d * dout->stride[1] + t * dout->stride[2]);
    if (args->silu)
        g *= NAME(silu_derivative)(
            NAME(preactivation)(&args->x, &args->weight, &args->bias, b, d, t));
    return g;
}

/* dx[t] = sum_k weight[k] * g[t+W-1-k];  dweight[k] = sum_t g[t] * x[t-(W-1)+k];  dbias = sum_t
 * g[t] */
static void NAME(backward)(const causal_conv1d_backward_args *args, const cc1d_tile *tile,
                           REAL *partial)
{
    enum { BLOCK = 64 };
    const tensor *x = &args->x, *weight = &args->weight, *dx = &args->dx;
    int64_t dim = x->size[1], seqlen = x->size[2], width = weight->size[1];
    for (int64_t row = 0; row <= width; row++)
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) partial[row * dim + d] = 0;
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++)
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++)
            for (int64_t begin = tile->time_begin; begin < tile->time_end; begin += BLOCK) {
                int64_t end = begin + BLOCK < tile->time_end ? begin + BLOCK : tile->time_end;
                REAL sum[BLOCK] = {0}; /* of dx[begin..end) */
                for (int64_t t = begin; t < seqlen && t < end + width - 1; t++) {
                    REAL g = NAME(gradient)(args, b, d, t);
                    for (int64_t k = 0; k < width; k++) {
                        int64_t s = t - (width - 1) + k;
                        REAL w = NAME(load)(weight, d * weight->stride[0] + k * weight->stride[1]);
                        if (s >= begin && s < end) sum[s - begin] = FMA(w, g, sum[s - begin]);
                        if (t >= end || s < 0) continue;
                        partial[k * dim + d] = FMA(
                            g,
                            NAME(load)(x, b * x->stride[0] + d * x->stride[1] + s * x->stride[2]),
                            partial[k * dim + d]);
                    }
                    if (t < end) partial[width * dim + d] += g;
                }
                for (int64_t t = begin; t < end; t++)
                    cc1d_store(dx->data, dx->dtype,
                               b * dx->stride[0] + d * dx->stride[1] + t * dx->stride[2],
                               sum[t - begin]);
            }
}
