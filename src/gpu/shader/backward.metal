// Backward:
//
//   dx[t] = sum_j w[W-1-j] g[t+j],  dweight[k] = sum g[t] x[t-(W-1)+k],  dbias = sum g[t].
//
// A segment is `run` times of a batch row.  Its sums of channel d go to
// partial[(segment * (W+1) + k) * D + d], that of dbias as k = W, and `reduce` adds the segments.
// Widths whose taps are in registers have backward_time.metal and backward_dim.metal; here are the
// other widths, initial states, and `reduce`.

#if WANTED(CC1D_BACKWARD_ANY_WIDTH)
// Grid: (T, D, B).  dx, one element at a time, for any width.
kernel void backward_any_width(PARAMETERS(CC1D_BACKWARD_SLOTS, CC1D_BACKWARD_))
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

#if WANTED(CC1D_SUMS_ANY_WIDTH)
// Grid: (D, W + 1, B * segments).  The partial sums of dweight and dbias for any width.
kernel void sums_any_width(PARAMETERS(CC1D_BACKWARD_SLOTS, CC1D_BACKWARD_))
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
kernel void backward_states(PARAMETERS(CC1D_BACKWARD_SLOTS, CC1D_BACKWARD_))
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
kernel void reduce(PARAMETERS(CC1D_REDUCE_SLOTS, CC1D_REDUCE_))
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
