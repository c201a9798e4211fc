// Backward along the time.

#if WANTED(CC1D_BACKWARD_TIME) && !ANY_WIDTH
// Grid: (32, D, B * segments).  A SIMD group walks down the times of one channel's segment, a lane
// has VECTOR neighbouring times; the g that follow come from the next lane, or from the block
// before.
kernel void backward_time(PARAMETERS(CC1D_BACKWARD_SLOTS, CC1D_BACKWARD_))
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
