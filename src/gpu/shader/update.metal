// States of packed sequences, and the decoding step.

#if WANTED(CC1D_STATES)
// Grid: (D, N).  The last `length` inputs of every sequence, where forward could not write them.
kernel void states(PARAMETERS(CC1D_STATES_SLOTS, CC1D_STATES_))
{
    offset d = position.x, n = position.y;
    if (d >= offset(dim) || n >= offset(sequences)) return;
    Channel c;
    c.x = x + (PACKED ? 0 : n * offset(x_b)) + d * offset(x_d), c.x_t = x_t;
    c.initial = (in_place ? states : initial) + d * offset(initial_d), c.initial_n = initial_n, c.initial_k = initial_k;
    c.ids = ids, c.ids_t = ids_t, c.seqlen = seqlen, c.sequences = sequences;
    store_final_state(c, sequence_of(c, n), length,
                      states + n * offset(states_n) + d * offset(states_d), states_k);
}
#endif

#if WANTED(CC1D_UPDATE)
// Grid: (D, B).  out as if the convolution had run on the state followed by x, and the state moved
// on.
kernel void update(PARAMETERS(CC1D_UPDATE_SLOTS, CC1D_UPDATE_))
{
    offset d = position.x, b = position.y, n = b;
    if (d >= offset(dim)) return;
    x += b * offset(x_b) + d * offset(x_d);
    out += b * offset(out_b) + d * offset(out_d);
#if INDEXED
    ROW index = indices[b * offset(indices_b)];
    if (index < 0 || long(index) >= pool) { // padding, or nothing that may be written
        for (offset t = 0; t < offset(seqlen); t++) out[t * offset(out_t)] = VALUE(0.0f);
        return;
    }
    n = index;
#endif
    state += n * offset(state_n) + d * offset(state_d);
    weight += d * WIDTH;
    float start = bias_of(bias, d * offset(bias_d));
#if SINGLE
    float w[WIDTH], column[SINGLE + 1]; // the state, then x
    load_channel_taps(weight, w);
    if (VECTOR > 1)
        Elements<VALUE, VECTOR>::load(state, column);
    else
#pragma unroll
        for (int k = 0; k < SINGLE; k++) column[k] = float(state[k * offset(state_k)]);
    column[SINGLE] = float(x[0]);
#pragma unroll
    for (int k = 0; k < WIDTH; k++) start = fma(w[k], column[SINGLE - (WIDTH - 1) + k], start);
    out[0] = VALUE(activation(start));
    if (VECTOR > 1)
        Elements<VALUE, VECTOR>::store(column + 1, state);
    else
#pragma unroll
        for (int k = 0; k < SINGLE; k++) state[k * offset(state_k)] = VALUE(column[k + 1]);
#else
    offset times = seqlen, columns = length, now = columns; // the column of time 0
#if RING
    if (columns > 0)
        now = offset(cache_seqlens[b * offset(cache_seqlens_b)] % ID(columns)) + columns;
#endif
    for (offset t = 0; t < times; t++) {
        float v = start;
        for (int k = 0; k < WIDTH; k++) {
            offset at = t - (WIDTH - 1) + k;
            float value;
            if (at >= 0)
                value = float(x[at * offset(x_t)]);
            else
                value = float(
                    state[(RING ? (now + columns + at) % columns : now + at) * offset(state_k)]);
            v = fma(float(weight[k]), value, v);
        }
        out[t * offset(out_t)] = VALUE(activation(v));
    }
#if RING
    for (offset t = max(times - columns, offset(0)); t < times; t++)
        state[(now + t) % columns * offset(state_k)] = x[t * offset(x_t)];
#else
    for (offset k = 0; k < columns; k++) {
        offset from = k + times - columns;
        state[k * offset(state_k)] =
            from < 0 ? state[(k + times) * offset(state_k)] : x[from * offset(x_t)];
    }
#endif
#endif
}
#endif
