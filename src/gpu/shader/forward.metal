// Forward: out, and final states where whoever computes the end of a row can write them.

#if WANTED(CC1D_FORWARD_TIME)
// Grid: (T / VECTOR / ROWS, D, B).  A thread computes ROWS vectors of neighbouring times of one
// channel; with its SIMD group it fills whole rows of 32 vectors.  The last also writes the final
// state.
kernel void forward_time(PARAMETERS(CC1D_FORWARD_SLOTS, CC1D_FORWARD_))
{
    offset lane = position.x % CC1D_SIMD, d = position.y, b = position.z;
    offset first = (offset(position.x) / CC1D_SIMD * ROWS * CC1D_SIMD + lane) * VECTOR;
    if (first >= offset(seqlen) || d >= offset(dim)) return;
    Channel c;
    PLACE_CHANNEL(c);
    out += b * offset(out_b) + d * offset(out_d);
    offset out_step = VECTOR > 1 ? 1 : offset(out_t);
#if !ANY_WIDTH
    float w[WIDTH];
    Values::words words[ROWS][WINDOW];
#pragma unroll
    for (int r = 0; r < ROWS; r++) fetch_window(c, first + r * (CC1D_SIMD * VECTOR), words[r]);
    load_channel_taps(c.weight, w);
#endif
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        offset t = first + r * (CC1D_SIMD * VECTOR);
        float result[VECTOR];
#if ANY_WIDTH
        result[0] = output(c, t);
#else
        float window[BACK + VECTOR];
        unpack_window(c, t, words[r], window);
        thread const float *inputs = window + BACK - (WIDTH - 1);
        bool whole = is_whole(c, sequence_at(c, t), t - (WIDTH - 1), t + VECTOR - 1);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            float v = c.bias;
            bool padding = false;
            if (whole) {
#pragma unroll
                for (int k = 0; k < WIDTH; k++) v = fma(w[k], inputs[i + k], v);
            } else {
                Sequence s = sequence_at(c, t + i);
                padding = is_padding(c, s, t + i);
#pragma unroll
                for (int k = 0; k < WIDTH; k++) {
                    offset at = t + i - (WIDTH - 1) + k;
                    v = fma(w[k], seen(c, s, at, counts(c, at, t + i), inputs[i + k]), v);
                }
            }
            result[i] = padding ? 0.0f : activation(v);
        }
#endif
        Values::store(result, out + t * out_step);
#if FINAL
        if (t + VECTOR == offset(seqlen))
            store_final_state(c, sequence_of(c, b), WIDTH - 1,
                              final_states + b * offset(final_n) + d * offset(final_d), final_k);
#endif
    }
}
#endif

#if WANTED(CC1D_FORWARD_DIM) && !ANY_WIDTH
// Grid: (D / VECTOR, T / run, B).  A thread computes `run` times of VECTOR neighbouring channels,
// ROWS at once, over a window that slides through its registers.  The last also writes the final
// states.
kernel void forward_dim(PARAMETERS(CC1D_FORWARD_SLOTS, CC1D_FORWARD_))
{
    offset d = offset(position.x) * VECTOR, b = position.z;
    offset t = offset(position.y) * offset(run), end = min(t + offset(run), offset(seqlen));
    if (d >= offset(dim) || t >= end) return;
    Channel c;
    PLACE_CHANNEL(c);
    out += b * offset(out_b) + d * offset(out_d);
#if FINAL // here, as the loop below leaves no registers to spare
    if (end == c.seqlen) {
        Channel one = c;
        for (int v = 0; v < VECTOR; v++) {
            store_final_state(one, sequence_of(c, b), WIDTH - 1,
                              final_states + b * offset(final_n) + (d + v) * offset(final_d),
                              final_k);
            one.x += offset(x_d), one.initial += offset(initial_d);
        }
    }
#endif

    float w[WIDTH][VECTOR], bias_v[VECTOR];
    load_taps(weight, bias, d, bias_d, w, bias_v);
    Sequence s = sequence_at(c, t);
    float window[WIDTH - 1 + ROWS][VECTOR];
    Values::words next[ROWS];
    fetch_rows(c.x, c.x_t, t, c.seqlen, next);
    ID row_ids[ROWS];
    fetch_ids(c, t, row_ids);
    Passed passed = passed_before(c, t);
    load_history(c, initial_d, t, window);
    for (; t < end; t += ROWS) {
        unpack_rows(next, window + WIDTH - 1);
        offset last = min(t + ROWS, end) - 1;
        bool whole = pass_rows(c, s, passed, row_ids, t, last);
        if (t + ROWS < end) fetch_rows(c.x, c.x_t, t + ROWS, c.seqlen, next);
        device VALUE *to = out + t * offset(out_t);
        if (whole) {
#pragma unroll
            for (int r = 0; r < ROWS; r++, to += offset(out_t)) {
                float result[VECTOR];
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    float sum = bias_v[v];
#pragma unroll
                    for (int k = 0; k < WIDTH; k++) sum = fma(w[k][v], window[r + k][v], sum);
                    result[v] = activation(sum);
                }
                if (t + r < end) Values::store(result, to);
            }
        } else {
#pragma unroll
            for (int r = 0; r < ROWS; r++, to += offset(out_t)) {
                offset now = min(t + r, last), first = now - (WIDTH - 1);
                if (PACKED && now >= s.end && s.n + 1 < c.sequences) s = sequence_at(c, now);
                bool padding = is_padding(c, s, now), counted[WIDTH];
#pragma unroll
                for (int k = 0; k < WIDTH; k++) counted[k] = counts(c, first + k, now);
                float result[VECTOR];
                Channel one = c;
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    float sum = bias_v[v];
#pragma unroll
                    for (int k = 0; k < WIDTH; k++)
                        sum = fma(w[k][v], seen(one, s, first + k, counted[k], window[r + k][v]),
                                  sum);
                    result[v] = padding ? 0.0f : activation(sum);
                    one.initial += offset(initial_d);
                }
                if (t + r < end) Values::store(result, to);
            }
        }
        fetch_ids(c, t + ROWS, row_ids); // here, where registers are free again
#pragma unroll
        for (int k = 0; k < WIDTH - 1; k++)
#pragma unroll
            for (int v = 0; v < VECTOR; v++) window[k][v] = window[k + ROWS][v];
    }
}
#endif
