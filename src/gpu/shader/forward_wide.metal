// Forward for widths above those whose taps are kept in registers, up to CC1D_GPU_WIDE_WIDTH.

#if WIDE
// The taps before the last one come in blocks of 16, of which the first lacks the LACKING first; so
// each block needs 16 more inputs, and the window of HALO earlier times begins at a multiple of 16.
enum { BLOCK = 16, BLOCKS = (WIDTH - 1 + BLOCK - 1) / BLOCK };
enum { HALO = BLOCKS * BLOCK, LACKING = HALO - (WIDTH - 1) };
typedef vec<float, 4> Quad;

// Adds the taps of a block, without the FIRST first, to N sums of neighbouring times, and moves
// their window on.
template <int FIRST, int N>
inline void add_block(thread const float (&w)[BLOCK], thread float (&window)[N + BLOCK],
                      thread float (&sums)[N])
{
#pragma unroll
    for (int k = FIRST; k < BLOCK; k++)
#pragma unroll
        for (int i = 0; i < N; i++) sums[i] = fma(w[k], window[i + k], sums[i]);
#pragma unroll
    for (int i = 0; i < N; i++) window[i] = window[i + BLOCK];
}

// The last tap.
template <int N>
inline void add_last(float w, thread const float (&window)[N + BLOCK], thread float (&sums)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = fma(w, window[i], sums[i]);
}

// The input that the window of a batch row has before time 0.
inline float before_row(thread const Channel &c, offset at)
{
    if (PACKED || at < -(WIDTH - 1)) return 0.0f;
    return history(c, sequence_of(c, c.batch), at);
}

// From sums over one sequence to the outputs from time t on, one by one where sequences meet.
template <int N> inline void finish(thread const Channel &c, offset t, thread float (&sums)[N])
{
    offset last = min(t + N, c.seqlen) - 1;
    if (t > last || is_whole(c, sequence_at(c, t), t - (WIDTH - 1), last)) {
#pragma unroll
        for (int i = 0; i < N; i++) sums[i] = activation(sums[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) sums[i] = output(c, min(t + i, last));
    }
}

#endif

#if WANTED(CC1D_FORWARD_WIDE_TIME) && WIDE
// Grid: (32 ceil(T / SPAN), D, B).  A SIMD group computes SPAN times of a channel, alone: the
// groups of a channel differ too much in time to wait for each other.  Inputs and taps are in
// threadgroup memory as floats; TIMES of them are a row there, which 4 unused ones keep from lying
// on the same banks as the next.  Outputs take the place of the inputs, to be moved as these were.
kernel void forward_wide_time(PARAMETERS(CC1D_FORWARD_SLOTS, CC1D_FORWARD_))
{
    enum { TIMES = CC1D_WIDE_TIMES, SPAN = CC1D_SIMD * TIMES, QUADS = TIMES / 4 };
    enum { UNIT = VECTOR > 4 ? VECTOR : 4 };
    enum { UNITS = (SPAN + HALO) / UNIT, ROUNDS = (UNITS + CC1D_SIMD - 1) / CC1D_SIMD };
    threadgroup Quad rows[CC1D_WIDE_TIME_SIMDS][CC1D_SIMD + BLOCKS][QUADS + 1];
    threadgroup Quad taps[CC1D_WIDE_TIME_SIMDS][HALO / 4];
    offset lane = position.x % CC1D_SIMD, d = position.y, b = position.z;
    offset simd = d % CC1D_WIDE_TIME_SIMDS, first = offset(position.x) / CC1D_SIMD * SPAN;
    if (d >= offset(dim)) return;
    Channel c;
    PLACE_CHANNEL(c);
    offset x_step = VECTOR > 1 ? 1 : c.x_t, out_step = VECTOR > 1 ? 1 : offset(out_t);
    out += b * offset(out_b) + d * offset(out_d);

    Values::words words[ROUNDS][UNIT / VECTOR];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++)
#pragma unroll
        for (int a = 0; a < UNIT / VECTOR; a++) {
            offset at = first - HALO + (r * CC1D_SIMD + lane) * UNIT + a * VECTOR;
            words[r][a] = Values::fetch(c.x + max(min(at, c.seqlen - VECTOR), offset(0)) * x_step);
        }
    for (offset q = lane; q < HALO / 4; q += CC1D_SIMD) {
        Quad quad;
#pragma unroll
        for (int i = 0; i < 4; i++)
            quad[i] = q * 4 + i < LACKING ? 0.0f : float(c.weight[max(int(q) * 4 + i - LACKING, 0)]);
        taps[simd][q] = quad;
    }
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        float inputs[UNIT];
        offset unit = r * CC1D_SIMD + lane, at = first - HALO + unit * UNIT;
#pragma unroll
        for (int a = 0; a < UNIT / VECTOR; a++) Values::unpack(words[r][a], inputs + a * VECTOR);
        if (unit >= UNITS) break;
        if (at < 0)
            for (int i = 0; i < UNIT; i++) inputs[i] = before_row(c, at + i);
#pragma unroll
        for (int i = 0; i < UNIT; i += 4) {
            Quad quad;
            for (int j = 0; j < 4; j++) quad[j] = inputs[i + j];
            offset place = unit * UNIT + i;
            rows[simd][place / TIMES][place % TIMES / 4] = quad;
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);

    float window[TIMES + BLOCK], w[BLOCK], sums[TIMES];
#pragma unroll
    for (int i = 0; i < TIMES; i++) sums[i] = c.bias;
#pragma unroll
    for (int i = 0; i < TIMES; i++) window[i] = rows[simd][lane][i / 4][i % 4];
// Block m: its taps, and the inputs that it has more than the one before.
#define FETCH_BLOCK(m)                                                                   \
    for (int i = 0; i < BLOCK; i++)                                                      \
        w[i] = taps[simd][(m) * QUADS + i / 4][i % 4],                                   \
        window[TIMES + i] = rows[simd][lane + (m) + 1][i / 4][i % 4]
#pragma unroll
    FETCH_BLOCK(0);
    add_block<LACKING>(w, window, sums);
#pragma unroll 2
    for (int m = 1; m < BLOCKS; m++) {
#pragma unroll
        FETCH_BLOCK(m);
        add_block<0>(w, window, sums);
    }
#undef FETCH_BLOCK
    add_last(float(c.weight[WIDTH - 1]), window, sums);
    finish(c, first + lane * TIMES, sums);

    simdgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
        Quad quad;
#pragma unroll
        for (int i = 0; i < 4; i++) quad[i] = sums[q * 4 + i];
        rows[simd][lane][q] = quad;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int r = 0; r < SPAN / UNIT / CC1D_SIMD; r++) {
        float result[UNIT];
        offset place = (r * CC1D_SIMD + lane) * UNIT;
#pragma unroll
        for (int i = 0; i < UNIT; i += 4) {
            Quad quad = rows[simd][(place + i) / TIMES][(place + i) % TIMES / 4];
#pragma unroll
            for (int j = 0; j < 4; j++) result[i + j] = quad[j];
        }
#pragma unroll
        for (int a = 0; a < UNIT; a += VECTOR)
            if (first + place + a < c.seqlen)
                Values::store(result + a, out + (first + place + a) * out_step);
    }
#if FINAL
    if (first + SPAN >= c.seqlen)
        store_final_columns(c, sequence_of(c, b), WIDTH - 1,
                            final_states + b * offset(final_n) + d * offset(final_d), final_k,
                            lane, CC1D_SIMD);
#endif
}
#endif

#if WANTED(CC1D_FORWARD_WIDE_DIM) && WIDE
// A block of inputs, from time t on.
inline void load_block(thread const Channel &c, offset t, thread float *to)
{
    if (t >= 0 && t + BLOCK <= c.seqlen) {
        device const VALUE *from = c.x + t * c.x_t;
#pragma unroll
        for (int i = 0; i < BLOCK; i++, from += c.x_t) to[i] = float(*from);
    } else {
#pragma unroll
        for (int i = 0; i < BLOCK; i++)
            to[i] = t + i < 0 ? before_row(c, t + i)
                              : float(c.x[min(t + i, c.seqlen - 1) * c.x_t]);
    }
}

// Grid: (D, SIMDS ceil(T / run), B), both in whole groups.  A lane has a channel, and a SIMD group
// the next TIMES of it; inputs come from the cache, which the SIMD groups of a group share, and taps from
// threadgroup memory, which holds CHUNK of each channel at a time.
kernel void forward_wide_dim(PARAMETERS(CC1D_FORWARD_SLOTS, CC1D_FORWARD_))
{
    enum { SIMDS = CC1D_WIDE_DIM_SIMDS, TIMES = CC1D_WIDE_TIMES };
    enum { CHUNK = HALO < 128 ? HALO : 128 };
    threadgroup float taps[CHUNK][CC1D_SIMD + 1]; // one more, for the banks
    offset lane = position.x % CC1D_SIMD, simd = position.y % SIMDS, b = position.z;
    offset group_d = offset(position.x) - lane, d = min(group_d + lane, offset(dim) - 1);
    offset begin = offset(position.y) / SIMDS * offset(run);
    offset end = min(begin + offset(run), offset(seqlen));
    bool active = group_d + lane < offset(dim);
    Channel c;
    PLACE_CHANNEL(c);
    out += b * offset(out_b) + d * offset(out_d);
    float last = float(c.weight[WIDTH - 1]);
    for (offset tile = begin; tile < end; tile += SIMDS * TIMES) {
        offset t = tile + simd * TIMES;
        float window[TIMES + BLOCK], w[BLOCK], sums[TIMES];
#pragma unroll
        for (int i = 0; i < TIMES; i++) sums[i] = c.bias;
        load_block(c, t - HALO, window);
        for (int chunk = 0; chunk < HALO; chunk += CHUNK) {
            if (HALO > CHUNK || tile == begin) {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                for (int n = simd * CC1D_SIMD + lane; n < CHUNK * CC1D_SIMD;
                     n += SIMDS * CC1D_SIMD) {
                    int i = n / CHUNK, j = n % CHUNK, k = min(chunk + j, HALO - 1) - LACKING;
                    device const WEIGHT *of = weight + min(group_d + i, offset(dim) - 1) * WIDTH;
                    taps[j][i] = float(of[max(k, 0)]);
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
// The taps from number m of the chunk on, and the inputs that they have more than those before.
#define FETCH_BLOCK(m)                                                   \
    load_block(c, t - HALO + chunk + (m) + TIMES, window + TIMES);       \
    for (int k = 0; k < BLOCK; k++) w[k] = taps[(m) + k][lane]
            int m = 0;
            if (chunk == 0) {
                FETCH_BLOCK(0);
                add_block<LACKING>(w, window, sums);
                m = BLOCK;
            }
#pragma unroll 2
            for (; m < min(int(HALO) - chunk, int(CHUNK)); m += BLOCK) {
                FETCH_BLOCK(m);
                add_block<0>(w, window, sums);
            }
#undef FETCH_BLOCK
        }
        add_last(last, window, sums);
        if (!active) continue;
        finish(c, t, sums);
        device VALUE *to = out + t * offset(out_t);
#pragma unroll
        for (int i = 0; i < TIMES; i++, to += offset(out_t))
            if (t + i < end) *to = VALUE(sums[i]);
    }
#if FINAL
    if (active && end == c.seqlen)
        store_final_columns(c, sequence_of(c, b), WIDTH - 1,
                            final_states + b * offset(final_n) + d * offset(final_d), final_k,
                            simd, SIMDS);
#endif
}
#endif
