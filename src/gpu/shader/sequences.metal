// Where a sequence lies, which inputs count at each of its times, and out, g and dx for one element
// at a time: slow, but right for any width and wherever sequences meet.

// One channel of one batch row: where its inputs lie, its parameters, and, in backward, its dout.
struct Channel {
    device const VALUE *x;
    device const VALUE *initial; // of the channel in states row 0
    device const VALUE *dout;
    device const ID *ids; // seq_idx of the batch row, or cu_seqlens
    device const WEIGHT *weight;
    float bias;
    offset batch, seqlen, sequences;
    offset x_t, ids_t, initial_n, initial_k, dout_t;
};

// Sequence n: times start..end-1 of the row.
struct Sequence {
    offset n, start, end;
};

// The bounds are held inside of x, and the sequence at t starts no later, whatever cu_seqlens says.
inline Sequence sequence_of(thread const Channel &c, offset n)
{
    Sequence s;
    s.n = n;
#if PACKED
    s.start = min(max(offset(c.ids[n * c.ids_t]), offset(0)), c.seqlen);
    s.end = min(max(offset(c.ids[min(n + 1, c.sequences) * c.ids_t]), s.start), c.seqlen);
#else
    s.start = 0;
    s.end = c.seqlen;
#endif
    return s;
}

// The sequence that time t belongs to, or the last one, which ends before t.
inline Sequence sequence_at(thread const Channel &c, offset t)
{
#if PACKED
    offset n = 0, above = c.sequences;
    while (above - n > 1) {
        offset middle = n + (above - n) / 2;
        if (offset(c.ids[middle * c.ids_t]) <= t)
            n = middle;
        else
            above = middle;
    }
    Sequence s = sequence_of(c, n);
    s.start = min(s.start, t);
    return s;
#else
    return sequence_of(c, c.batch);
#endif
}

// Whether the input at time `at` counts at time t of the same sequence; columns before 0 carry the
// first id.
inline bool counts(thread const Channel &c, offset at, offset t)
{
#if SEQ_IDX
    return c.ids[max(at, offset(0)) * c.ids_t] == c.ids[t * c.ids_t];
#else
    return true;
#endif
}

// Padding has a negative id, or lies beyond s, the sequence at t.
inline bool is_padding(thread const Channel &c, thread const Sequence &s, offset t)
{
#if SEQ_IDX
    return c.ids[t * c.ids_t] < 0;
#elif PACKED
    return t >= s.end;
#else
    return false;
#endif
}

// The column of time `at` before the start of s, of `length` in its initial state.
inline VALUE state_column(thread const Channel &c, thread const Sequence &s, offset at,
                          offset length)
{
#if INITIAL
    return c.initial[s.n * c.initial_n + (at - s.start + length) * c.initial_k];
#else
    return VALUE(0.0f);
#endif
}

inline float history(thread const Channel &c, thread const Sequence &s, offset at)
{
    return float(state_column(c, s, at, WIDTH - 1));
}

// Of the last `length` inputs of s, oldest first, continued to the left by its initial state, every
// `stride`th from `first` on.
inline void store_final_columns(thread const Channel &c, thread const Sequence &s, offset length,
                                device VALUE *to, offset to_k, offset first, offset stride)
{
    for (offset k = first; k < length; k += stride) {
        offset at = s.end - length + k;
        to[k * to_k] = at >= s.start ? c.x[at * c.x_t] : state_column(c, s, at, length);
    }
}

// All of them.  `to` may be the initial state: columns ascend.
inline void store_final_state(thread const Channel &c, thread const Sequence &s, offset length,
                              device VALUE *to, offset to_k)
{
    store_final_columns(c, s, length, to, to_k, 0, 1);
}

// The input at time `at` as time t of sequence s sees it.
inline float input(thread const Channel &c, thread const Sequence &s, offset at, offset t)
{
    if (!counts(c, at, t)) return 0.0f;
    return at >= s.start ? float(c.x[at * c.x_t]) : history(c, s, at);
}

// The same from `value`, which a window holds for time `at`, if that counts.  Windows hold the
// initial state of a batch row, but not those of packed sequences.
inline float seen(thread const Channel &c, thread const Sequence &s, offset at, bool counted,
                  float value)
{
    if (!counted) return 0.0f;
    return PACKED && at < s.start ? history(c, s, at) : value;
}

inline float convolution(thread const Channel &c, thread const Sequence &s, offset t)
{
    float v = c.bias;
    for (int k = 0; k < WIDTH; k++)
        v = fma(float(c.weight[k]), input(c, s, t - (WIDTH - 1) + k, t), v);
    return v;
}

#if ANY_WIDTH
// out[t].
inline float output(thread const Channel &c, offset t)
{
    Sequence s = sequence_at(c, t);
    return is_padding(c, s, t) ? 0.0f : activation(convolution(c, s, t));
}
#endif

// g[t], the gradient of the sum before the activation; 0 from the end of sequence s on.
inline float gradient(thread const Channel &c, thread const Sequence &s, offset t)
{
    if (t >= s.end || is_padding(c, s, t)) return 0.0f;
    float dout = float(c.dout[t * c.dout_t]);
#if SILU
    return activation_gradient(dout, convolution(c, s, t));
#else
    return dout;
#endif
}

// The gradient of the input at time `at` of sequence s, before or after its start, without what the
// final states add to it.
inline float input_gradient(thread const Channel &c, thread const Sequence &s, offset at)
{
    float sum = 0.0f;
    for (int k = WIDTH - 1; k >= 0; k--) {
        offset t = at + (WIDTH - 1) - k;
        if (t >= s.start && t < s.end && counts(c, at, t))
            sum = fma(float(c.weight[k]), gradient(c, s, t), sum);
    }
    return sum;
}

// The gradient of the final states that the input at time `at` of sequence s became; 0 of padding.
inline float final_gradient(device const VALUE *dfinal, offset dfinal_n, offset dfinal_k,
                            thread const Sequence &s, offset at)
{
#if FINAL
    offset column = at - s.end + WIDTH - 1;
    if (column < 0 || (PACKED && at >= s.end)) return 0.0f;
    return float(dfinal[s.n * dfinal_n + column * dfinal_k]);
#else
    return 0.0f;
#endif
}

// Whether all times first..last are of one sequence, so that every one counts at every other.
inline bool is_whole(thread const Channel &c, thread const Sequence &s, offset first, offset last)
{
#if PACKED
    return first >= s.start && last < s.end;
#elif SEQ_IDX
    first = max(first, offset(0));
    last = min(last, c.seqlen - 1);
    ID id = c.ids[first * c.ids_t];
    bool whole = id >= 0;
    for (offset t = first + 1; t <= last; t++) whole = whole && c.ids[t * c.ids_t] == id;
    return whole;
#else
    return true;
#endif
}

inline float bias_of(device const BIAS *bias, offset at)
{
#if HAS_BIAS
    return float(bias[at]);
#else
    return 0.0f;
#endif
}
