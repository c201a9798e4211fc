// Causal depthwise conv1d, forward, backward and update, for Apple GPUs; metal_on_cuda.h makes CUDA
// of the same text.
//
//   out[b,d,t] = act(bias[d] + sum_k weight[d,k] * x[b,d,t-(W-1)+k]),   k = 0..W-1
//
// The work is bound by memory: every kernel reads its inputs once and keeps taps, window and sums
// in registers.  Why it is built so:
//
// - There are two ways through a tensor, by the dimension that is contiguous.  `.._time` gives a
//   thread neighbouring times, 16 bytes of them: the widest access of an Apple GPU core ("Optimize
//   Metal Performance for Apple silicon Macs", WWDC 2020).  `.._dim` gives it neighbouring channels
//   and walks along the time.  Either way the 32 lanes of a SIMD group move neighbouring memory.
//   Where rows do not lie on the size of an access, or have other strides, VECTOR is 1, and the
//   same kernels move single elements.
// - Several vectors of a thread are under way at a time (ROWS): fetched as they lie in memory, and
//   unpacked where they are used.
// - The window's overlap of W-1 is read again, from the cache, or comes from the neighbouring lane
//   by a shuffle.  Forward has no barrier, so groups of any size and shape will do.
// - Backward leaves partial sums of dweight and dbias that `reduce` adds in a fixed order: no
//   atomics, the same bits each time.
// - Offsets are 32 bits wide unless the tensors need 64 (INDEX): Apple GPUs multiply 64-bit
//   integers in several steps.
// - Accumulators are float; there is no double.  The one transcendental is precise::exp, whose
//   argument is held to where nothing overflows, so the compiler's fast math, under which
//   infinities may be ignored, changes no finite result beyond rounding.
//
// Arguments are tensors, then `constant long &` numbers, strides in elements; parameter i is slot
// i. weight (D,W) is contiguous and lies on 16 bytes.  An absent tensor has any other one in its
// place.
//
// One text is compiled per variant, with a preamble that sets these:
#include <metal_stdlib>
#ifndef CC1D_ARGS_H
#include "args.h"
#endif
using namespace metal;

#ifndef KERNEL
#define KERNEL CC1D_ALL
#endif
#ifndef VALUE // the type of x, out and states
#define VALUE float
#endif
#ifndef WEIGHT
#define WEIGHT float
#endif
#ifndef BIAS
#define BIAS float
#endif
#ifndef INDEX // the type of offsets: int or long
#define INDEX int
#endif
#ifndef ID // the type of seq_idx, cu_seqlens and cache_seqlens: int or long
#define ID int
#endif
#ifndef ROW // the type of conv_state_indices: int or long
#define ROW int
#endif
#ifndef WIDTH
#define WIDTH 4
#endif
#ifndef VECTOR // elements of an access: 1, or as many as 8 or 16 bytes hold
#define VECTOR 1
#endif
#ifndef ROWS // vectors that a thread has in flight
#define ROWS 1
#endif
#ifndef SILU
#define SILU 1
#endif
#ifndef HAS_BIAS
#define HAS_BIAS 1
#endif
#ifndef SEQ_IDX // ids are seq_idx
#define SEQ_IDX 0
#endif
#ifndef PACKED // ids are cu_seqlens
#define PACKED 0
#endif
#ifndef INITIAL // there are initial states
#define INITIAL 0
#endif
#ifndef FINAL // there are final states, or gradients of them
#define FINAL 0
#endif
#ifndef RING // the update has cache_seqlens
#define RING 0
#endif
#ifndef INDEXED // the update has conv_state_indices
#define INDEXED 0
#endif
#ifndef SINGLE // columns of the state in an update of one time, no ring, WIDTH not general; 0: any
#define SINGLE 0
#endif

#define WANTED(kernel) (KERNEL == CC1D_ALL || KERNEL == kernel)
#define GENERAL (WIDTH < CC1D_GPU_MIN_WIDTH || WIDTH > CC1D_GPU_MAX_WIDTH)

typedef INDEX offset;

// ---- Elements, single and in 32-bit words -------------------------------------------------------

template <typename T> struct Word {
    enum { COUNT = 2 };
    static void unpack(uint word, thread float *to)
    {
        float2 pair = float2(as_type<vec<T, 2>>(word));
        to[0] = pair.x;
        to[1] = pair.y;
    }
    static uint pack(thread const float *from)
    {
        return as_type<uint>(vec<T, 2>(float2(from[0], from[1])));
    }
};

template <> struct Word<float> {
    enum { COUNT = 1 };
    static void unpack(uint word, thread float *to)
    {
        to[0] = as_type<float>(word);
    }
    static uint pack(thread const float *from)
    {
        return as_type<uint>(from[0]);
    }
};

// N words that are moved as one.
template <int N> struct Words {
    typedef vec<uint, N> type;
    static uint get(type words, int i)
    {
        return words[i];
    }
    static void set(thread type &words, int i, uint word)
    {
        words[i] = word;
    }
};

template <> struct Words<1> {
    typedef uint type;
    static uint get(type only, int)
    {
        return only;
    }
    static void set(thread type &only, int, uint word)
    {
        only = word;
    }
};

// N neighbouring elements, on a multiple of their size in bytes if N > 1.  They are fetched as they
// lie in memory and unpacked where they are used, so that many fetches can be under way.
template <typename T, int N> struct Elements {
    enum { COUNT = N / Word<T>::COUNT };
    typedef typename Words<COUNT>::type words;
    static words fetch(device const T *from)
    {
        return *reinterpret_cast<device const words *>(from);
    }
    static void unpack(words w, thread float *to)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            Word<T>::unpack(Words<COUNT>::get(w, i), to + i * Word<T>::COUNT);
    }
    static void load(device const T *from, thread float *to)
    {
        unpack(fetch(from), to);
    }
    static void store(thread const float *from, device T *to)
    {
        words w;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            Words<COUNT>::set(w, i, Word<T>::pack(from + i * Word<T>::COUNT));
        *reinterpret_cast<device words *>(to) = w;
    }
};

template <typename T> struct Elements<T, 1> {
    typedef T words;
    static words fetch(device const T *from)
    {
        return from[0];
    }
    static void unpack(words w, thread float *to)
    {
        to[0] = float(w);
    }
    static void load(device const T *from, thread float *to)
    {
        unpack(fetch(from), to);
    }
    static void store(thread const float *from, device T *to)
    {
        to[0] = T(from[0]);
    }
};

typedef Elements<VALUE, VECTOR> Values;

// ---- SiLU ---------------------------------------------------------------------------------------

// sigmoid(v), and 1 - sigmoid(v) without a subtraction; -87 <= v <= 87, beyond which exp or the
// reciprocal would leave the normal numbers.
inline float sigmoid(float v, thread float &rest)
{
    float e = precise::exp(-v);
    float s = fast::divide(1.0f, 1.0f + e);
    rest = e * s;
    return s;
}

inline float activation(float v)
{
#if SILU
    float rest, above = v < -87.0f ? -87.0f : v; // a NaN stays one
    return above * sigmoid(above > 87.0f ? 87.0f : above, rest);
#else
    return v;
#endif
}

// g = dout * act'(v); silu'(v) = s (1 + v (1 - s)), s = sigmoid(v).
inline float activation_gradient(float dout, float v)
{
#if SILU
    float rest, held = v < -87.0f ? -87.0f : v > 87.0f ? 87.0f : v;
    float s = sigmoid(held, rest);
    return dout * (s * fma(held, rest, 1.0f));
#else
    return dout;
#endif
}

// ---- Sequences ----------------------------------------------------------------------------------

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

// The last `length` inputs of s, oldest first, continued to the left by its initial state.  `to`
// may be that state: columns ascend.
inline void store_final_state(thread const Channel &c, thread const Sequence &s, offset length,
                              device VALUE *to, offset step)
{
    for (offset k = 0; k < length; k++) {
        offset at = s.end - length + k;
        to[k * step] = at >= s.start ? c.x[at * c.x_t] : state_column(c, s, at, length);
    }
}

// The input at time `at` as time t of sequence s sees it: the general way, one element at a time.
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

#if GENERAL
// The general way to out[t].
inline float output(thread const Channel &c, offset t)
{
    Sequence s = sequence_at(c, t);
    return is_padding(c, s, t) ? 0.0f : activation(convolution(c, s, t));
}
#endif

// The general way to g[t]; 0 from the end of sequence s on.
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

// The general way to the gradient of the input at time `at` of sequence s, before or after its
// start, but for that of the final states.
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

#if !GENERAL
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

// ---- Arguments ----------------------------------------------------------------------------------
//
// Strides are named after the dimension they step over: batch, sequence n, channel d, time t, state
// column k.

#define FORWARD_ARGUMENTS                                                                 \
    device const VALUE *x [[buffer(0)]], device const WEIGHT *weight [[buffer(1)]],       \
        device const BIAS *bias [[buffer(2)]], device const ID *ids [[buffer(3)]],        \
        device const VALUE *initial [[buffer(4)]], device VALUE *out [[buffer(5)]],       \
        device VALUE *final_states [[buffer(6)]], constant long &dim [[buffer(7)]],       \
        constant long &seqlen [[buffer(8)]], constant long &sequences [[buffer(9)]],      \
        constant long &run [[buffer(10)]], constant long &x_b [[buffer(11)]],             \
        constant long &x_d [[buffer(12)]], constant long &x_t [[buffer(13)]],             \
        constant long &out_b [[buffer(14)]], constant long &out_d [[buffer(15)]],         \
        constant long &out_t [[buffer(16)]], constant long &bias_d [[buffer(17)]],        \
        constant long &ids_b [[buffer(18)]], constant long &ids_t [[buffer(19)]],         \
        constant long &initial_n [[buffer(20)]], constant long &initial_d [[buffer(21)]], \
        constant long &initial_k [[buffer(22)]], constant long &final_n [[buffer(23)]],   \
        constant long &final_d [[buffer(24)]], constant long &final_k [[buffer(25)]],     \
        uint3 position [[thread_position_in_grid]]

#define BACKWARD_ARGUMENTS                                                                 \
    device const VALUE *x [[buffer(0)]], device const WEIGHT *weight [[buffer(1)]],        \
        device const BIAS *bias [[buffer(2)]], device const ID *ids [[buffer(3)]],         \
        device const VALUE *initial [[buffer(4)]], device const VALUE *dout [[buffer(5)]], \
        device const VALUE *dfinal [[buffer(6)]], device VALUE *dx [[buffer(7)]],          \
        device float *partial [[buffer(8)]], constant long &dim [[buffer(9)]],             \
        constant long &seqlen [[buffer(10)]], constant long &sequences [[buffer(11)]],     \
        constant long &run [[buffer(12)]], constant long &x_b [[buffer(13)]],              \
        constant long &x_d [[buffer(14)]], constant long &x_t [[buffer(15)]],              \
        constant long &dout_b [[buffer(16)]], constant long &dout_d [[buffer(17)]],        \
        constant long &dout_t [[buffer(18)]], constant long &dx_b [[buffer(19)]],          \
        constant long &dx_d [[buffer(20)]], constant long &dx_t [[buffer(21)]],            \
        constant long &bias_d [[buffer(22)]], constant long &ids_b [[buffer(23)]],         \
        constant long &ids_t [[buffer(24)]], constant long &initial_n [[buffer(25)]],      \
        constant long &initial_d [[buffer(26)]], constant long &initial_k [[buffer(27)]],  \
        constant long &dfinal_n [[buffer(28)]], constant long &dfinal_d [[buffer(29)]],    \
        constant long &dfinal_k [[buffer(30)]], uint3 position [[thread_position_in_grid]]

// Channel d of batch row b, from the arguments of either list.
#define PLACE_CHANNEL(c)                                     \
    c.x = x + b * offset(x_b) + d * offset(x_d);             \
    c.initial = initial + d * offset(initial_d);             \
    c.ids = ids + b * offset(ids_b);                         \
    c.weight = weight + d * WIDTH;                           \
    c.bias = bias_of(bias, d * offset(bias_d));              \
    c.batch = b, c.seqlen = seqlen, c.sequences = sequences; \
    c.x_t = x_t, c.ids_t = ids_t, c.initial_n = initial_n, c.initial_k = initial_k
#define PLACE_GRADIENT(c) c.dout = dout + b * offset(dout_b) + d * offset(dout_d), c.dout_t = dout_t

// ---- Forward ------------------------------------------------------------------------------------

#if WANTED(CC1D_FORWARD_TIME)
// Grid: (T / VECTOR / ROWS, D, B).  A thread computes ROWS vectors of neighbouring times of one
// channel; with its SIMD group it fills whole rows of 32 vectors.  The last also writes the final
// state.
kernel void forward_time(FORWARD_ARGUMENTS)
{
    offset lane = position.x % CC1D_SIMD, d = position.y, b = position.z;
    offset first = (offset(position.x) / CC1D_SIMD * ROWS * CC1D_SIMD + lane) * VECTOR;
    if (first >= offset(seqlen) || d >= offset(dim)) return;
    Channel c;
    PLACE_CHANNEL(c);
    out += b * offset(out_b) + d * offset(out_d);
    offset out_step = VECTOR > 1 ? 1 : offset(out_t);
#if !GENERAL
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
#if GENERAL
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

#if WANTED(CC1D_FORWARD_DIM) && !GENERAL
// Grid: (D / VECTOR, T / run, B).  A thread computes `run` times of VECTOR neighbouring channels,
// ROWS at once, over a window that slides through its registers.  The last also writes the final
// states.
kernel void forward_dim(FORWARD_ARGUMENTS)
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

// ---- Backward -----------------------------------------------------------------------------------
//
// dx[t] = sum_j w[W-1-j] g[t+j],  dweight[k] = sum g[t] x[t-(W-1)+k],  dbias = sum g[t].  A segment
// is `run` times of a batch row; its sums of channel d go to partial[(segment * (W+1) + k) * D +
// d], that of dbias as k = W.

#if WANTED(CC1D_BACKWARD_TIME) && !GENERAL
// Grid: (32, D, B * segments).  A SIMD group walks down the times of one channel's segment, a lane
// has VECTOR neighbouring times; the g that follow come from the next lane, or from the block
// before.
kernel void backward_time(BACKWARD_ARGUMENTS)
{
    const offset block = CC1D_SIMD * VECTOR;
    offset lane = position.x, d = position.y;
    offset segments = (offset(seqlen) + offset(run) - 1) / offset(run);
    offset b = offset(position.z) / segments, segment = offset(position.z) % segments;
    offset begin = segment * offset(run), end = min(begin + offset(run), offset(seqlen));
    if (d >= offset(dim)) return; // a SIMD group as a whole
    Channel c;
    PLACE_CHANNEL(c);
    PLACE_GRADIENT(c);
    dx += b * offset(dx_b) + d * offset(dx_d);
    dfinal += d * offset(dfinal_d);

    float w[WIDTH], sums[WIDTH + 1];
    load_channel_taps(c.weight, w);
#pragma unroll
    for (int k = 0; k <= WIDTH; k++) sums[k] = 0.0f;

    // g of the block behind: at first, of the times that follow the segment.
    float behind[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        offset t = end + lane * VECTOR + i;
        behind[i] = 0.0f;
        if (lane * VECTOR + i < WIDTH - 1 && t < c.seqlen)
            behind[i] = gradient(c, sequence_at(c, t), t);
    }

    offset x_step = VECTOR > 1 ? 1 : c.x_t, dout_step = VECTOR > 1 ? 1 : c.dout_t;
    offset t = begin + (end - begin - 1) / block * block + lane * VECTOR;
    offset last = c.seqlen - VECTOR, from = min(t, last);
    Values::words next = Values::fetch(c.x + from * x_step);
    Values::words next_dout = Values::fetch(c.dout + from * dout_step);
    for (; t >= begin; t -= block) {
        float own[VECTOR], ahead[VECTOR], window[WIDTH - 1 + VECTOR], g[VECTOR + WIDTH - 1];
        bool inside = t < end;
        Values::unpack(next, own);
        Values::unpack(next_dout, g);
        from = min(max(t - block, offset(0)), last);
        next = Values::fetch(c.x + from * x_step);
        next_dout = Values::fetch(c.dout + from * dout_step);
        // Time t - m is with lane - step, before the first lane in the block that is done next.
        Values::unpack(next, ahead);
#pragma unroll
        for (int m = 1; m < WIDTH; m++) {
            offset step = (m + VECTOR - 1) / VECTOR;
            float offered =
                lane >= CC1D_SIMD - step ? ahead[step * VECTOR - m] : own[step * VECTOR - m];
            window[WIDTH - 1 - m] =
                simd_shuffle(offered, ushort((lane + CC1D_SIMD - step) % CC1D_SIMD));
        }
        if (!PACKED && t < WIDTH - 1) {
            Sequence s = sequence_of(c, c.batch);
#pragma unroll
            for (int m = 1; m < WIDTH; m++)
                if (t < m) window[WIDTH - 1 - m] = history(c, s, t - m);
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) window[WIDTH - 1 + i] = own[i];

        Sequence s = sequence_at(c, min(t, c.seqlen - 1));
        if (inside && is_whole(c, s, t - (WIDTH - 1), t + VECTOR - 1)) {
#pragma unroll
            for (int i = 0; i < VECTOR; i++) {
                float v = c.bias;
#pragma unroll
                for (int k = 0; k < WIDTH; k++) v = fma(w[k], window[i + k], v);
                g[i] = activation_gradient(g[i], v);
#pragma unroll
                for (int k = 0; k < WIDTH; k++) sums[k] = fma(g[i], window[i + k], sums[k]);
                sums[WIDTH] += g[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < VECTOR; i++) {
                g[i] = 0.0f;
                if (!inside) continue;
                Sequence one = sequence_at(c, t + i);
                g[i] = gradient(c, one, t + i);
                if (is_padding(c, one, t + i)) continue;
                for (int k = 0; k < WIDTH; k++)
                    sums[k] = fma(g[i], input(c, one, t + i - (WIDTH - 1) + k, t + i), sums[k]);
                sums[WIDTH] += g[i];
            }
        }
        // Time t + VECTOR + m is with lane + 1 + m / VECTOR, beyond the last lane in the block
        // behind.
#pragma unroll
        for (int m = 0; m < WIDTH - 1; m++) {
            offset step = 1 + m / VECTOR;
            float offered = lane < step ? behind[m % VECTOR] : g[m % VECTOR];
            g[VECTOR + m] = simd_shuffle(offered, ushort((lane + step) % CC1D_SIMD));
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) behind[i] = g[i];
        if (!inside) continue;

        float result[VECTOR];
        bool whole = is_whole(c, s, t, t + VECTOR - 1 + WIDTH - 1);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            float sum = 0.0f;
            if (whole) {
#pragma unroll
                for (int j = 0; j < WIDTH; j++) sum = fma(w[WIDTH - 1 - j], g[i + j], sum);
            } else {
                Sequence one = sequence_at(c, t + i);
#pragma unroll
                for (int j = 0; j < WIDTH; j++)
                    if (t + i + j < one.end && counts(c, t + i, t + i + j))
                        sum = fma(w[WIDTH - 1 - j], g[i + j], sum);
            }
#if FINAL
            sum += final_gradient(dfinal, dfinal_n, dfinal_k, PACKED ? sequence_at(c, t + i) : s,
                                  t + i);
#endif
            result[i] = sum;
        }
        Values::store(result, dx + t * (VECTOR > 1 ? 1 : offset(dx_t)));
    }

#pragma unroll
    for (int k = 0; k <= WIDTH; k++) {
        float sum = sums[k];
#pragma unroll
        for (int step = CC1D_SIMD / 2; step > 0; step /= 2)
            sum += simd_shuffle(sum, ushort((lane + step) % CC1D_SIMD));
        if (lane == 0) partial[(offset(position.z) * (WIDTH + 1) + k) * offset(dim) + d] = sum;
    }
}
#endif

#if WANTED(CC1D_BACKWARD_DIM) && !GENERAL
// Grid: (D / VECTOR rounded up to 32, segments rounded up to CC1D_REDUCE_SLICES, B), groups of (32,
// CC1D_REDUCE_SLICES, 1).  A thread walks up the times of VECTOR neighbouring channels, ROWS at
// once, and W-1 times beyond its `run`, whose g the last dx need.  The segment that has one partial
// sum is a group's.
kernel void backward_dim(BACKWARD_ARGUMENTS)
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

#if WANTED(CC1D_BACKWARD_GENERAL)
// Grid: (T, D, B).  dx, one element at a time, for any width.
kernel void backward_general(BACKWARD_ARGUMENTS)
{
    offset t = position.x, d = position.y, b = position.z;
    if (t >= offset(seqlen) || d >= offset(dim)) return;
    Channel c;
    PLACE_CHANNEL(c);
    PLACE_GRADIENT(c);
    Sequence s = sequence_at(c, t);
    dx[b * offset(dx_b) + d * offset(dx_d) + t * offset(dx_t)] =
        VALUE(input_gradient(c, s, t) +
              final_gradient(dfinal + d * offset(dfinal_d), dfinal_n, dfinal_k, s, t));
}
#endif

#if WANTED(CC1D_SUMS_GENERAL)
// Grid: (D, W + 1, B * segments).  The partial sums of dweight and dbias for any width.
kernel void sums_general(BACKWARD_ARGUMENTS)
{
    offset d = position.x, k = position.y;
    offset segments = (offset(seqlen) + offset(run) - 1) / offset(run);
    offset b = offset(position.z) / segments, begin = offset(position.z) % segments * offset(run);
    if (d >= offset(dim) || k > WIDTH) return;
    Channel c;
    PLACE_CHANNEL(c);
    PLACE_GRADIENT(c);
    float sum = 0.0f;
    for (offset t = begin; t < min(begin + offset(run), c.seqlen); t++) {
        Sequence s = sequence_at(c, t);
        if (is_padding(c, s, t)) continue;
        float g = gradient(c, s, t);
        sum = k == WIDTH ? sum + g : fma(g, input(c, s, t - (WIDTH - 1) + k, t), sum);
    }
    partial[(offset(position.z) * (WIDTH + 1) + k) * offset(dim) + d] = sum;
}
#endif

#if WANTED(CC1D_BACKWARD_STATES)
// Grid: (D, N).  The gradient of the initial states, in the place and with the strides of dx.
kernel void backward_states(BACKWARD_ARGUMENTS)
{
    offset d = position.x, n = position.y, b = PACKED ? 0 : n;
    if (d >= offset(dim) || n >= offset(sequences)) return;
    Channel c;
    PLACE_CHANNEL(c);
    PLACE_GRADIENT(c);
    Sequence s = sequence_of(c, n);
    for (offset k = 0; k < WIDTH - 1; k++) {
        offset at = s.start - (WIDTH - 1) + k;
        dx[n * offset(dx_b) + d * offset(dx_d) + k * offset(dx_t)] =
            VALUE(input_gradient(c, s, at) +
                  final_gradient(dfinal + d * offset(dfinal_d), dfinal_n, dfinal_k, s, at));
    }
}
#endif

#if WANTED(CC1D_REDUCE)
// Grid: (D rounded up to 32, CC1D_REDUCE_SLICES, W + 1), groups of (32, CC1D_REDUCE_SLICES, 1).
// Adds the `parts` partial sums, each slice every CC1D_REDUCE_SLICES-th, then the slices, in order.
kernel void reduce(device const float *partial [[buffer(0)]], device WEIGHT *dweight [[buffer(1)]],
                   device BIAS *dbias [[buffer(2)]], constant long &dim [[buffer(3)]],
                   constant long &parts [[buffer(4)]], constant long &dweight_d [[buffer(5)]],
                   constant long &dweight_k [[buffer(6)]], constant long &dbias_d [[buffer(7)]],
                   uint3 position [[thread_position_in_grid]])
{
    threadgroup float slices[CC1D_REDUCE_SLICES][CC1D_SIMD];
    offset d = position.x, slice = position.y, k = position.z, lane = d % CC1D_SIMD;
    float sum = 0.0f;
    if (d < offset(dim))
        for (offset part = slice; part < offset(parts); part += CC1D_REDUCE_SLICES)
            sum += partial[(part * (WIDTH + 1) + k) * offset(dim) + d];
    slices[slice][lane] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (slice > 0 || d >= offset(dim)) return;
    for (int i = 1; i < CC1D_REDUCE_SLICES; i++) sum += slices[i][lane];
    if (k < WIDTH) dweight[d * offset(dweight_d) + k * offset(dweight_k)] = WEIGHT(sum);
#if HAS_BIAS
    else
        dbias[d * offset(dbias_d)] = BIAS(sum);
#endif
}
#endif

// ---- States and update --------------------------------------------------------------------------

#if WANTED(CC1D_STATES)
// Grid: (D, N).  The last `length` inputs of every sequence, where forward could not write them.
kernel void states(device const VALUE *x [[buffer(0)]], device const ID *ids [[buffer(1)]],
                   device const VALUE *initial [[buffer(2)]], device VALUE *states [[buffer(3)]],
                   constant long &dim [[buffer(4)]], constant long &seqlen [[buffer(5)]],
                   constant long &length [[buffer(6)]], constant long &x_b [[buffer(7)]],
                   constant long &x_d [[buffer(8)]], constant long &x_t [[buffer(9)]],
                   constant long &ids_t [[buffer(10)]], constant long &initial_n [[buffer(11)]],
                   constant long &initial_d [[buffer(12)]], constant long &initial_k [[buffer(13)]],
                   constant long &states_n [[buffer(14)]], constant long &states_d [[buffer(15)]],
                   constant long &states_k [[buffer(16)]],
                   constant long &sequences [[buffer(17)]],
                   uint3 position [[thread_position_in_grid]])
{
    offset d = position.x, n = position.y;
    if (d >= offset(dim) || n >= offset(sequences)) return;
    Channel c;
    c.x = x + (PACKED ? 0 : n * offset(x_b)) + d * offset(x_d), c.x_t = x_t;
    c.initial = initial + d * offset(initial_d), c.initial_n = initial_n, c.initial_k = initial_k;
    c.ids = ids, c.ids_t = ids_t, c.seqlen = seqlen, c.sequences = sequences;
    store_final_state(c, sequence_of(c, n), length,
                      states + n * offset(states_n) + d * offset(states_d), states_k);
}
#endif

#if WANTED(CC1D_UPDATE)
// Grid: (D, B).  out as if the convolution had run on the state followed by x, and the state moved
// on.
kernel void update(device const VALUE *x [[buffer(0)]], device const WEIGHT *weight [[buffer(1)]],
                   device const BIAS *bias [[buffer(2)]], device VALUE *state [[buffer(3)]],
                   device const ID *cache_seqlens [[buffer(4)]],
                   device const ROW *indices [[buffer(5)]], device VALUE *out [[buffer(6)]],
                   constant long &dim [[buffer(7)]], constant long &seqlen [[buffer(8)]],
                   constant long &length [[buffer(9)]], constant long &pool [[buffer(10)]],
                   constant long &x_b [[buffer(11)]], constant long &x_d [[buffer(12)]],
                   constant long &x_t [[buffer(13)]], constant long &out_b [[buffer(14)]],
                   constant long &out_d [[buffer(15)]], constant long &out_t [[buffer(16)]],
                   constant long &state_n [[buffer(17)]], constant long &state_d [[buffer(18)]],
                   constant long &state_k [[buffer(19)]], constant long &bias_d [[buffer(20)]],
                   constant long &cache_seqlens_b [[buffer(21)]],
                   constant long &indices_b [[buffer(22)]],
                   uint3 position [[thread_position_in_grid]])
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
