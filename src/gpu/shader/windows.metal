// Taps, windows and rows in registers, for the widths that have them there.

#if !ANY_WIDTH
// The times that the window of a vector reaches back, in whole vectors.
enum { BACK = (WIDTH - 1 + VECTOR - 1) / VECTOR * VECTOR };

// Loads are unconditional, from addresses held inside of x, and corrected afterwards, so that none
// waits for another.

// Inputs t-BACK..t+VECTOR-1 of a channel whose times are contiguous if VECTOR > 1.
enum { WINDOW = BACK / VECTOR + 1 };
inline void fetch_window(thread const Channel &c, offset t, thread Values::words (&words)[WINDOW])
{
    offset step = VECTOR > 1 ? 1 : c.x_t;
#pragma unroll
    for (int i = 0; i < WINDOW; i++)
        words[i] = Values::fetch(c.x + max(t - BACK + i * VECTOR, offset(0)) * step);
}

// The same, unpacked; those before time 0 from the initial states.
inline void unpack_window(thread const Channel &c, offset t,
                          thread const Values::words (&words)[WINDOW], thread float *window)
{
#pragma unroll
    for (int i = 0; i < WINDOW; i++) Values::unpack(words[i], window + i * VECTOR);
    if (PACKED || t >= BACK) return;
    Sequence s = sequence_of(c, c.batch);
#pragma unroll
    for (int i = 0; i < BACK; i++) {
        offset at = t - BACK + i;
        if (at < 0) window[i] = at < -(WIDTH - 1) ? 0.0f : history(c, s, at);
    }
}

// ROWS rows from time t on of VECTOR channels; those from seqlen on are not meant to be used.
inline void fetch_rows(device const VALUE *from, offset step, offset t, offset seqlen,
                       thread Values::words (&rows)[ROWS])
{
    if (t + ROWS <= seqlen) {
        from += t * step; // adding is cheaper than multiplying anew
#pragma unroll
        for (int r = 0; r < ROWS; r++, from += step) rows[r] = Values::fetch(from);
    } else {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            rows[r] = Values::fetch(from + min(t + r, seqlen - 1) * step);
    }
}

// The ids of the same rows; from seqlen on, the last one.
inline void fetch_ids(thread const Channel &c, offset t, thread ID (&ids)[ROWS])
{
#if SEQ_IDX
#pragma unroll
    for (int r = 0; r < ROWS; r++) ids[r] = c.ids[min(t + r, c.seqlen - 1) * c.ids_t];
#endif
}

// The last id that a thread has passed on its way up the times, and since when it has been the
// same.
struct Passed {
    ID id;
    offset since;
};

// As it stands before time t; looks back W-1 times, of which windows have no more.
inline Passed passed_before(thread const Channel &c, offset t)
{
    Passed p = {0, 0};
#if SEQ_IDX
    p.since = max(t - (WIDTH - 1), offset(0));
    p.id = c.ids[p.since * c.ids_t];
#pragma unroll
    for (int i = WIDTH - 2; i > 0; i--) {
        ID id = c.ids[max(t - i, offset(0)) * c.ids_t];
        if (id != p.id) p.id = id, p.since = t - i;
    }
#endif
    return p;
}

// Takes p over the rows from time t on; whether they, up to time `last`, and the W-1 before are of
// one sequence (without seq_idx: of s).  Rows beyond `last` may make it say no, which costs time.
inline bool pass_rows(thread const Channel &c, thread const Sequence &s, thread Passed &p,
                      thread const ID (&ids)[ROWS], offset t, offset last)
{
#if SEQ_IDX
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (ids[r] != p.id) p.id = ids[r], p.since = t + r;
    return p.id >= 0 && p.since <= max(t - (WIDTH - 1), offset(0));
#else
    return is_whole(c, s, t - (WIDTH - 1), last);
#endif
}

inline void unpack_rows(thread const Values::words (&rows)[ROWS], thread float (*to)[VECTOR])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) Values::unpack(rows[r], to[r]);
}

// The W-1 rows before time t.
inline void load_history(thread const Channel &c, offset initial_d, offset t,
                         thread float (*rows)[VECTOR])
{
#pragma unroll
    for (int k = 0; k < WIDTH - 1; k++)
        Values::load(c.x + max(t - (WIDTH - 1) + k, offset(0)) * c.x_t, rows[k]);
    if (PACKED || t >= WIDTH - 1) return;
    Sequence s = sequence_of(c, c.batch);
    Channel one = c;
#pragma unroll
    for (int v = 0; v < VECTOR; v++, one.initial += initial_d)
#pragma unroll
        for (int k = 0; k < WIDTH - 1; k++)
            if (t - (WIDTH - 1) + k < 0) rows[k][v] = history(one, s, t - (WIDTH - 1) + k);
}

// The taps of one channel.  weight lies on 16 bytes.
inline void load_channel_taps(device const WEIGHT *weight, thread float *w)
{
    enum { BYTES = WIDTH * sizeof(WEIGHT), EVEN = BYTES % 16 == 0 ? 16 : BYTES % 8 == 0 ? 8 : 0 };
    enum { STEP = sizeof(WEIGHT) > 4 || EVEN == 0 ? 1 : EVEN / sizeof(WEIGHT) };
#pragma unroll
    for (int k = 0; k < WIDTH; k += STEP) Elements<WEIGHT, STEP>::load(weight + k, w + k);
}

// Taps and biases of VECTOR channels from d on: tap k of channel d + v in w[k][v].
inline void load_taps(device const WEIGHT *weight, device const BIAS *bias, offset d, offset bias_d,
                      thread float (&w)[WIDTH][VECTOR], thread float (&b)[VECTOR])
{
    enum { AT_ONCE = sizeof(WEIGHT) > 4 || VECTOR == 1 ? 1 : 16 / sizeof(WEIGHT) };
    enum { STEP = VECTOR * WIDTH % AT_ONCE == 0 ? AT_ONCE : 1 };
    float taps[VECTOR * WIDTH];
#pragma unroll
    for (int i = 0; i < VECTOR * WIDTH; i += STEP)
        Elements<WEIGHT, STEP>::load(weight + d * WIDTH + i, taps + i);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
#pragma unroll
        for (int k = 0; k < WIDTH; k++) w[k][v] = taps[v * WIDTH + k];
        b[v] = bias_of(bias, (d + v) * bias_d);
    }
}
#endif
