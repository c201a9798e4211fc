// Backward along the channels.

#if WANTED(CC1D_BACKWARD_DIM) && !ANY_WIDTH
// Grid: (D / VECTOR rounded up to 32, segments rounded up to CC1D_REDUCE_SLICES, B), groups of (32,
// CC1D_REDUCE_SLICES, 1).  A thread walks up the times of VECTOR neighbouring channels, ROWS at
// once, and W-1 times beyond its `run`, whose g the last dx need.  The segment that has one partial
// sum is a group's.
kernel void backward_dim(PARAMETERS(CC1D_BACKWARD_SLOTS, CC1D_BACKWARD_))
{
    offset d = offset(position.x) * VECTOR, segment = position.y, b = position.z;
    offset begin = segment * offset(run), end = min(begin + offset(run), offset(seqlen));
    bool active = d < offset(dim) && begin < end;
    if (!active) d = begin = end = 0; // goes through the barriers below with sums of 0
    Channel c;
    PLACE_CHANNEL(c);
    PLACE_GRADIENT(c);
    dx += b * offset(dx_b) + d * offset(dx_d);
    dfinal += d * offset(dfinal_d);

    float w[WIDTH][VECTOR], bias_v[VECTOR], sums[WIDTH + 1][VECTOR];
    load_taps(weight, bias, d, bias_d, w, bias_v);
    float window[WIDTH - 1 + ROWS][VECTOR], g[ROWS][VECTOR];
    float pending[WIDTH - 1][VECTOR]; // dx of the last W-1 times, as far as g is known
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
#pragma unroll
        for (int k = 0; k <= WIDTH; k++) sums[k][v] = 0.0f;
#pragma unroll
        for (int k = 0; k < WIDTH - 1; k++) pending[k][v] = 0.0f;
    }
    Sequence s = sequence_at(c, begin);
#if FINAL
    Sequence done = s; // that of the last time stored
#endif
    Values::words next[ROWS], next_dout[ROWS];
    fetch_rows(c.x, c.x_t, begin, c.seqlen, next);
    fetch_rows(c.dout, c.dout_t, begin, c.seqlen, next_dout);
    ID row_ids[ROWS];
    fetch_ids(c, begin, row_ids);
    Passed passed = passed_before(c, begin);
    load_history(c, initial_d, begin, window);
    for (offset t = begin; active && t < end + WIDTH - 1; t += ROWS) {
        unpack_rows(next, window + WIDTH - 1);
        unpack_rows(next_dout, g);
        bool whole = pass_rows(c, s, passed, row_ids, t, min(t + ROWS, c.seqlen) - 1);
        if (t + ROWS < end + WIDTH - 1) {
            fetch_rows(c.x, c.x_t, t + ROWS, c.seqlen, next);
            fetch_rows(c.dout, c.dout_t, t + ROWS, c.seqlen, next_dout);
        }
        device VALUE *to = dx + (t - (WIDTH - 1)) * offset(dx_t);
#pragma unroll
        for (int r = 0; r < ROWS; r++, to += offset(dx_t)) {
            float result[VECTOR];
            bool counted = t + r < end;
            if (whole) {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    float sum = bias_v[v];
#pragma unroll
                    for (int k = 0; k < WIDTH; k++) sum = fma(w[k][v], window[r + k][v], sum);
                    g[r][v] = t + r < c.seqlen ? activation_gradient(g[r][v], sum) : 0.0f;
                    if (counted) {
#pragma unroll
                        for (int k = 0; k < WIDTH; k++)
                            sums[k][v] = fma(g[r][v], window[r + k][v], sums[k][v]);
                        sums[WIDTH][v] += g[r][v];
                    }
                    result[v] = fma(w[0][v], g[r][v], pending[0][v]);
#pragma unroll
                    for (int k = 0; k < WIDTH - 2; k++)
                        pending[k][v] = fma(w[k + 1][v], g[r][v], pending[k + 1][v]);
                    pending[WIDTH - 2][v] = w[WIDTH - 1][v] * g[r][v];
                }
            } else {
                offset now = min(t + r, c.seqlen - 1), first = now - (WIDTH - 1);
                if (PACKED && now >= s.end && s.n + 1 < c.sequences) s = sequence_at(c, now);
                bool alive = t + r < c.seqlen && !is_padding(c, s, now), counting[WIDTH];
#pragma unroll
                for (int k = 0; k < WIDTH; k++) counting[k] = counts(c, first + k, now);
                Channel one = c;
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    float sum = bias_v[v], inputs[WIDTH];
#pragma unroll
                    for (int k = 0; k < WIDTH; k++) {
                        inputs[k] = seen(one, s, first + k, counting[k], window[r + k][v]);
                        sum = fma(w[k][v], inputs[k], sum);
                    }
                    float value = alive ? activation_gradient(g[r][v], sum) : 0.0f;
                    if (counted && alive) {
#pragma unroll
                        for (int k = 0; k < WIDTH; k++)
                            sums[k][v] = fma(value, inputs[k], sums[k][v]);
                        sums[WIDTH][v] += value;
                    }
#pragma unroll
                    for (int k = 0; k < WIDTH; k++) {
                        bool flows = alive && counting[k] && first + k >= s.start;
                        float gradient = k < WIDTH - 1 ? pending[min(k, WIDTH - 2)][v] : 0.0f;
                        if (flows) gradient = fma(w[k][v], value, gradient);
                        if (k == 0)
                            result[v] = gradient;
                        else
                            pending[max(k - 1, 0)][v] = gradient;
                    }
                    one.initial += offset(initial_d);
                }
            }
            offset at = t + r - (WIDTH - 1);
            if (at < begin || at >= end) continue;
#if FINAL
            if (PACKED && at >= done.end && done.n + 1 < c.sequences) done = sequence_at(c, at);
#pragma unroll
            for (int v = 0; v < VECTOR; v++)
                result[v] +=
                    final_gradient(dfinal + v * offset(dfinal_d), dfinal_n, dfinal_k, done, at);
#endif
            Values::store(result, to);
        }
        fetch_ids(c, t + ROWS, row_ids); // here, where registers are free again
#pragma unroll
        for (int k = 0; k < WIDTH - 1; k++)
#pragma unroll
            for (int v = 0; v < VECTOR; v++) window[k][v] = window[k + ROWS][v];
    }
    threadgroup float slices[CC1D_REDUCE_SLICES][CC1D_SIMD][VECTOR];
    offset slice = segment % CC1D_REDUCE_SLICES, lane = position.x % CC1D_SIMD;
    offset segments = (offset(seqlen) + offset(run) - 1) / offset(run);
    segments = (segments + CC1D_REDUCE_SLICES - 1) / CC1D_REDUCE_SLICES;
    partial += (b * segments + segment / CC1D_REDUCE_SLICES) * (WIDTH + 1) * offset(dim) + d;
#pragma unroll
    for (int k = 0; k <= WIDTH; k++) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) slices[slice][lane][v] = sums[k][v];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (slice > 0 || !active) continue;
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            float sum = sums[k][v];
            for (int i = 1; i < CC1D_REDUCE_SLICES; i++) sum += slices[i][lane][v];
            partial[k * offset(dim) + v] = sum;
        }
    }
}
#endif
