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
    return (1 + v * (e / (1 + e))) / (1 + e);
}

/* Column t of sequence s, from its history if t < 0. */
static REAL NAME(column)(const cc1d_args *args, const cc1d_sequence *s, int64_t d, int64_t t)
{
    const tensor *x = &args->x, *states = &args->states;
    if (t >= 0)
        return NAME(load)(x, s->batch * x->stride[0] + d * x->stride[1] +
                                 (s->start + t) * x->stride[2]);
    if (!states->dtype) return 0;
    int64_t column = (s->column + args->weight.size[1] - 1 + t) % states->size[2];
    return NAME(load)(states, s->state * states->stride[0] + d * states->stride[1] +
                                  column * states->stride[2]);
}

/* Whether time t of sequence s sees its column at time u <= t. */
static bool NAME(sees)(const cc1d_args *args, const cc1d_sequence *s, int64_t t, int64_t u)
{
    if (!args->seq_idx.dtype) return true;
    return cc1d_seq_idx(&args->seq_idx, s->batch, t) == cc1d_seq_idx(&args->seq_idx, s->batch, u);
}

static bool NAME(is_padding)(const cc1d_args *args, const cc1d_sequence *s, int64_t t)
{
    return args->seq_idx.dtype && cc1d_seq_idx(&args->seq_idx, s->batch, t) < 0;
}

/* The convolution before the activation at channel d, time t, taps in the order k = 0..W-1. */
static REAL NAME(preactivation)(const cc1d_args *args, const cc1d_sequence *s, int64_t d, int64_t t)
{
    const tensor *weight = &args->weight, *bias = &args->bias;
    int64_t width = weight->size[1];
    REAL v = bias->dtype ? NAME(load)(bias, d * bias->stride[0]) : 0;
    for (int64_t k = 0; k < width; k++) {
        int64_t u = t - (width - 1) + k;
        REAL w = NAME(load)(weight, d * weight->stride[0] + k * weight->stride[1]);
        v = FMA(w, NAME(sees)(args, s, t, u) ? NAME(column)(args, s, d, u) : 0, v);
    }
    return v;
}

static void NAME(forward)(const cc1d_args *args, const cc1d_tile *tile)
{
    const tensor *out = &args->out;
    for (int64_t n = tile->batch_begin; n < tile->batch_end; n++) {
        cc1d_sequence s = cc1d_sequence_at(args, n);
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++)
            for (int64_t t = tile->time_begin; t < tile->time_end && t < s.length; t++) {
                REAL v = NAME(preactivation)(args, &s, d, t);
                if (args->silu) v = NAME(silu)(v);
                if (NAME(is_padding)(args, &s, t)) v = 0;
                cc1d_store(out->data, out->dtype,
                           s.batch * out->stride[0] + d * out->stride[1] +
                               (s.start + t) * out->stride[2],
                           v);
            }
    }
}

/* The gradient with respect to the preactivation at channel d, time t. */
static REAL NAME(gradient)(const cc1d_args *args, const cc1d_sequence *s, int64_t d, int64_t t)
{
    const tensor *dout = &args->dout;
    REAL g = NAME(load)(dout, s->batch * dout->stride[0] + d * dout->stride[1] +
                                  (s->start + t) * dout->stride[2]);
    return args->silu ? g * NAME(silu_derivative)(NAME(preactivation)(args, s, d, t)) : g;
}

/* Adds up dx over [begin, end) in sum, begin = -(W-1) being the first column of the history:
 * dx[u] = sum_k weight[k] g[u+W-1-k] + what dfinal_states gives back.  Where `partial` is not NULL
 * also dweight[k] = sum_t g[t] x[t-(W-1)+k] and dbias = sum_t g[t] over the times in [begin, end).
 */
static void NAME(backward_block)(const cc1d_args *args, const cc1d_sequence *s, int64_t d,
                                 int64_t begin, int64_t end, REAL *sum, REAL *partial)
{
    const tensor *weight = &args->weight, *dfinal = &args->dfinal_states;
    int64_t dim = args->x.size[1], width = weight->size[1];
    for (int64_t u = begin; u < end; u++) {
        int64_t j = u - s->length + width - 1; /* its place in the final states */
        sum[u - begin] = dfinal->dtype && j >= 0
                             ? NAME(load)(dfinal, s->state * dfinal->stride[0] +
                                                      d * dfinal->stride[1] + j * dfinal->stride[2])
                             : 0;
    }
    for (int64_t t = begin < 0 ? 0 : begin; t < s->length && t < end + width - 1; t++) {
        if (NAME(is_padding)(args, s, t)) continue;
        REAL g = NAME(gradient)(args, s, d, t);
        for (int64_t k = 0; k < width; k++) {
            int64_t u = t - (width - 1) + k;
            REAL w = NAME(load)(weight, d * weight->stride[0] + k * weight->stride[1]);
            if (!NAME(sees)(args, s, t, u)) continue;
            if (u >= begin && u < end) sum[u - begin] = FMA(w, g, sum[u - begin]);
            if (partial && t < end)
                partial[k * dim + d] = FMA(g, NAME(column)(args, s, d, u), partial[k * dim + d]);
        }
        if (partial && t < end) partial[width * dim + d] += g;
    }
}

static void NAME(backward)(const cc1d_args *args, const cc1d_tile *tile, REAL *partial)
{
    enum { BLOCK = 64 };
    REAL sum[BLOCK];
    const tensor *dx = &args->dx, *dinitial = &args->dinitial_states;
    int64_t dim = args->x.size[1], width = args->weight.size[1];
    for (int64_t row = 0; row <= width; row++)
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) partial[row * dim + d] = 0;
    for (int64_t n = tile->batch_begin; n < tile->batch_end; n++) {
        cc1d_sequence s = cc1d_sequence_at(args, n);
        int64_t tile_end = tile->time_end < s.length ? tile->time_end : s.length;
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) {
            for (int64_t begin = tile->time_begin; begin < tile_end; begin += BLOCK) {
                int64_t end = begin + BLOCK < tile_end ? begin + BLOCK : tile_end;
                NAME(backward_block)(args, &s, d, begin, end, sum, partial);
                for (int64_t t = begin; t < end; t++)
                    cc1d_store(dx->data, dx->dtype,
                               s.batch * dx->stride[0] + d * dx->stride[1] +
                                   (s.start + t) * dx->stride[2],
                               sum[t - begin]);
            }
            if (tile->time_begin > 0 || !dinitial->dtype) continue;
            for (int64_t u = 1 - width; u < 0; u++) {
                NAME(backward_block)(args, &s, d, u, u + 1, sum, NULL);
                cc1d_store(dinitial->data, dinitial->dtype,
                           s.state * dinitial->stride[0] + d * dinitial->stride[1] +
                               (u + width - 1) * dinitial->stride[2],
                           sum[0]);
            }
        }
    }
}
