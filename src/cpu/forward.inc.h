/* The forward algorithms over an ISA vocabulary.  dtype and W are constants in every instance;
 * silu_on is not, nor the number of lanes, lest the code grow fourfold.  Taps are added in the
 * order k = 0..W-1, by fma, on the bias: as the scalar code. */

INLINE vf convolve(const vf *tap, const vf *w, const int W)
{
    vf v = w[W];
    EACH (k, W) v = vf_fma(w[k], tap[k], v);
    return v;
}

/* The taps of the vector cur, which follows prev in a row of time. */
INLINE void shift_taps(vf *tap, vf prev, vf cur, const causal_conv1d_dtype dtype, const int W)
{
    EACH (k, W) tap[k] = vf_shift(prev, cur, dtype, W - 1 - k);
}

/* The vector before time t of a row that starts at x. */
INLINE vf history(const cc1d_args *args, const cc1d_sequence *s, int64_t d, const char *x,
                  causal_conv1d_dtype dtype, const int W, int64_t t)
{
    const int VL = vl(dtype);
    assert(t == 0 || t >= VL);
    if (t) return vf_load(x + (t - VL) * (int64_t)cc1d_dtype_size(dtype), dtype, VL);
    if (!args->states.dtype) return vf_set(0);
    float row[MAX_VL] = {0};
    EACH (j, W - 1)
        row[place(VL - (W - 1) + j, dtype)] = load_scalar(state_at(args, s, d, j, dtype), dtype);
    return vf_get(row, dtype);
}

enum { ALL_TAPS = 0xff };

/* The bits in which 8 masks are not full. */
INLINE uint64_t missing_bits(const uint8_t *masks, uint64_t full)
{
    uint64_t word;
    memcpy(&word, masks, 8);
    return word ^ full;
}

/* Whether each of a vector's masks says that all W taps count. */
INLINE bool all_full(const uint8_t *masks, const causal_conv1d_dtype dtype, const int W)
{
    const uint64_t full = ((1u << W) - 1) * UINT64_C(0x0101010101010101);
    uint64_t bits = missing_bits(masks, full);
    if (vl(dtype) >= 16) bits |= missing_bits(masks + 8, full);
    if (vl(dtype) >= 32) bits |= missing_bits(masks + 16, full) | missing_bits(masks + 24, full);
    return bits == 0;
}

/* Bytes ahead: the processor's own prefetching stops at the end of each page of memory. */
enum { PREFETCHED = 4096 };

/* `vectors` vectors of times from t on, the last of `last` times, of a row whose vector before is
 * *prev. */
INLINE void forward_time_step(const char *x, char *out, int64_t t, const int vectors, int64_t last,
                              vf *prev, const vf *w, const uint8_t *masks,
                              const causal_conv1d_dtype dtype, const int W, const bool silu_on,
                              const bool stream)
{
    const int64_t step = vl(dtype) * (int64_t)cc1d_dtype_size(dtype);
    const int64_t offset = t * (int64_t)cc1d_dtype_size(dtype);
    vf v[GROUP];
    bool whole = true;
    EACH (i, vectors) {
        const int64_t n = i < vectors - 1 ? vl(dtype) : last;
        if (vectors > 1) __builtin_prefetch(x + offset + i * step + PREFETCHED);
        vf cur = vf_load(x + offset + i * step, dtype, n), tap[CC1D_MAX_WIDTH];
        shift_taps(tap, *prev, cur, dtype, W);
        whole = !masks || all_full(masks + t, dtype, W);
        if (!whole)
            EACH (k, W) tap[k] = vf_keep_bits(tap[k], dtype, masks + t, 1 << k);
        v[i] = convolve(tap, w, W);
        *prev = cur;
    }
    if (silu_on) silu(v, vectors, dtype, false);
    if (!whole) v[0] = vf_keep_bits(v[0], dtype, masks + t, ALL_TAPS);
    EACH (i, vectors) {
        if (stream)
            vf_stream(out + offset + i * step, dtype, v[i]);
        else
            vf_store(out + offset + i * step, dtype, v[i], i < vectors - 1 ? vl(dtype) : last);
    }
}

/* Rows of time: each vector is loaded once and its taps are shifted out of it and the last.  Here
 * as in all kernels most of the work has a loop of its own, where masks are known to be NULL and
 * vectors to be whole: the compiler then has registers for it. */
INLINE void forward_time(const cc1d_args *args, const cc1d_tile *tile,
                         const causal_conv1d_dtype dtype, const int W)
{
    const int VL = vl(dtype), G = group(dtype);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        const cc1d_sequence s = cc1d_sequence_at(args, b);
        const int64_t end = tile->time_end < s.length ? tile->time_end : s.length;
        const uint8_t *masks = args->masks ? args->masks + s.batch * s.length : NULL;
        if (tile->time_begin >= end) continue;
        for (int64_t d = tile->dim_begin; d < tile->dim_end; d++) {
            const char *x = at(&args->x, dtype, s.batch, d, s.start);
            char *out = at(&args->out, dtype, s.batch, d, s.start);
            float channel[CC1D_MAX_WIDTH + 1];
            vf w[CC1D_MAX_WIDTH + 1], prev = history(args, &s, d, x, dtype, W, tile->time_begin);
            load_channel(&args->weight, &args->bias, d, W, channel);
            EACH (k, W + 1) w[k] = vf_set(channel[k]);
            int64_t t = tile->time_begin; /* a multiple of 64 */
            const bool stream = args->stream && (uintptr_t)out % 64 == 0;
            for (; !masks && t + G * VL <= end; t += G * VL)
                forward_time_step(x, out, t, G, VL, &prev, w, NULL, dtype, W, args->silu, stream);
            for (; t < end; t += VL)
                forward_time_step(x, out, t, 1, end - t, &prev, w, masks, dtype, W, args->silu,
                                  false);
        }
    }
    if (args->stream) vr_end_stream();
}

/* The W-1 columns before time 0 of a tile's channels as rows of fp32; rows begin as 0. */
INLINE void load_states(const cc1d_args *args, const cc1d_sequence *s, const cc1d_tile *tile,
                        const causal_conv1d_dtype dtype, const int W, float rows[][ROW])
{
    const int64_t n = tile->dim_end - tile->dim_begin;
    if (!args->states.dtype || tile->time_begin > 0) return;
    for (int64_t i = 0; i < n;) {
        const int64_t d = tile->dim_begin + i;
        if (args->states.stride[1] == 1 && n - i >= vl(dtype)) {
            EACH (j, W - 1)
                vf_put(&rows[j][i], dtype,
                       vf_load(state_at(args, s, d, j, dtype), dtype, vl(dtype)));
            i += vl(dtype);
        } else {
            EACH (j, W - 1)
                rows[j][place(i, dtype)] = load_scalar(state_at(args, s, d, j, dtype), dtype);
            i++;
        }
    }
}

/* The W-1 rows before time t of a vector of n channels, to tap[1..W-1]; x points at time t. */
INLINE void load_window(vf *tap, const char *x, int64_t x_step, int64_t t, int64_t n,
                        const float *states, const causal_conv1d_dtype dtype, const int W)
{
    EACH (k, W - 1) {
        if (t + k < W - 1)
            tap[k + 1] = vf_get(states + (t + k) * ROW, dtype);
        else
            tap[k + 1] = vf_load(x + (k - (W - 1)) * x_step, dtype, n);
    }
}

/* The taps of one time of which some do not count. */
INLINE void mask_window(vf *seen, const vf *tap, uint8_t mask, const int W)
{
    EACH (k, W) seen[k] = mask >> k & 1 ? tap[k] : vf_set(0);
}

enum { DIM_BLOCK = 8 }; /* times */

/* Rows of channels: for `times` times at once, each vector of channels keeps its window of the
 * last W rows in registers. */
INLINE void forward_dim_block(const char *x, int64_t x_step, char *out, int64_t out_step, int64_t t,
                              int64_t times, int64_t n, const float *rows, const float *states,
                              const uint8_t *masks, const causal_conv1d_dtype dtype, const int W,
                              const bool silu_on, const bool stream)
{
    const int G = group(dtype);
    vf w[CC1D_MAX_WIDTH + 1], tap[CC1D_MAX_WIDTH];
    EACH (k, W + 1) w[k] = vf_get(rows + k * ROW, dtype);
    load_window(tap, x, x_step, t, n, states, dtype, W);
    /* Of pairs SiLU needs the registers that taps and window are in: a block at once, then. */
    const int once = is_pair(dtype) ? DIM_BLOCK : G;
    int64_t i = 0;
    for (; !masks && i + once <= times; i += once) {
        ALIGNED float sums[DIM_BLOCK * MAX_VL];
        vf v[DIM_BLOCK];
        EACH (j, once) {
            EACH (k, W - 1) tap[k] = tap[k + 1];
            tap[W - 1] = vf_load(x, dtype, n);
            /* SiLU keeps the core from reaching the next block's rows in time; beside streamed
             * stores nothing else is left to wait for. */
            if (stream || silu_on) __builtin_prefetch(x + DIM_BLOCK * x_step, 0, 2);
            v[j] = convolve(tap, w, W);
            if (is_pair(dtype)) vf_put(sums + j * MAX_VL, dtype, v[j]);
            NEXT_ROW(x, x_step);
        }
        EACH (part, once / G) {
            EACH (g, G)
                if (is_pair(dtype)) v[g] = vf_get(sums + (part * G + g) * MAX_VL, dtype);
            if (silu_on) silu(v, G, dtype, false);
            EACH (g, G) {
                if (stream)
                    vf_stream(out, dtype, v[g]);
                else
                    vf_store(out, dtype, v[g], n);
                NEXT_ROW(out, out_step);
            }
        }
    }
    for (; i < times; i++) {
        vf v, seen[CC1D_MAX_WIDTH];
        EACH (k, W - 1) tap[k] = tap[k + 1];
        tap[W - 1] = vf_load(x, dtype, n);
        mask_window(seen, tap, masks ? masks[t + i] : ALL_TAPS, W);
        v = convolve(seen, w, W);
        if (silu_on) silu(&v, 1, dtype, false);
        if (masks && masks[t + i] == 0) v = vf_set(0);
        vf_store(out, dtype, v, n);
        x += x_step, out += out_step;
    }
}

INLINE void forward_dim(const cc1d_args *args, const cc1d_tile *tile,
                        const causal_conv1d_dtype dtype, const int W)
{
    const int64_t size = (int64_t)cc1d_dtype_size(dtype), dim = tile->dim_end - tile->dim_begin;
    const int VL = vl(dtype);
    const int64_t x_step = args->x.stride[2] * size, out_step = args->out.stride[2] * size;
    ALIGNED float rows[CC1D_MAX_WIDTH + 1][ROW];
    ALIGNED float states[CC1D_MAX_WIDTH - 1][ROW];
    assert(dim <= CC1D_DIM_TILE);
    load_channels(&args->weight, &args->bias, tile->dim_begin, dim, W, is_pair(dtype), rows);
    clear_rows(states, W - 1, dim);
    for (int64_t b = tile->batch_begin; b < tile->batch_end; b++) {
        const cc1d_sequence s = cc1d_sequence_at(args, b);
        const int64_t end = tile->time_end < s.length ? tile->time_end : s.length;
        const uint8_t *masks = args->masks ? args->masks + s.batch * s.length : NULL;
        if (tile->time_begin >= end) continue;
        load_states(args, &s, tile, dtype, W, states);
        for (int64_t t = tile->time_begin; t < end; t += DIM_BLOCK) {
            const char *x = at(&args->x, dtype, s.batch, tile->dim_begin, s.start + t);
            char *out = at(&args->out, dtype, s.batch, tile->dim_begin, s.start + t);
            int64_t times = end - t < DIM_BLOCK ? end - t : DIM_BLOCK;
            int64_t i = 0;
            /* Of half a line the other half would come too late. */
            const bool stream =
                args->stream && VL * size == 64 && ((uintptr_t)out | (uintptr_t)out_step) % 64 == 0;
            for (; stream && !masks && i + VL <= dim; i += VL)
                forward_dim_block(x + i * size, x_step, out + i * size, out_step, t, times, VL,
                                  &rows[0][i], &states[0][i], NULL, dtype, W, args->silu, true);
            for (; !masks && i + VL <= dim; i += VL)
                forward_dim_block(x + i * size, x_step, out + i * size, out_step, t, times, VL,
                                  &rows[0][i], &states[0][i], NULL, dtype, W, args->silu, false);
            for (; i < dim; i += VL)
                forward_dim_block(x + i * size, x_step, out + i * size, out_step, t, times, dim - i,
                                  &rows[0][i], &states[0][i], masks, dtype, W, args->silu, false);
        }
    }
    if (args->stream) vr_end_stream();
}
