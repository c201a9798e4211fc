// The kernels' parameters, which args.h lists, and how a channel is placed by them.

#define TENSOR_PARAMETER(prefix, type, name) type *name [[buffer(prefix##name)]],
#define NUMBER_PARAMETER(prefix, name) constant long &name [[buffer(prefix##name)]],
#define PARAMETERS(slots, prefix)                      \
    slots(TENSOR_PARAMETER, NUMBER_PARAMETER, prefix) \
        uint3 position [[thread_position_in_grid]]

// Channel d of batch row b, from what forward and backward begin with.
#define PLACE_CHANNEL(c)                                     \
    c.x = x + b * offset(x_b) + d * offset(x_d);             \
    c.initial = initial + d * offset(initial_d);             \
    c.ids = ids + b * offset(ids_b);                         \
    c.weight = weight + d * WIDTH;                           \
    c.bias = bias_of(bias, d * offset(bias_d));              \
    c.batch = b, c.seqlen = seqlen, c.sequences = sequences; \
    c.x_t = x_t, c.ids_t = ids_t, c.initial_n = initial_n, c.initial_k = initial_k
#define PLACE_GRADIENT(c) c.dout = dout + b * offset(dout_b) + d * offset(dout_d), c.dout_t = dout_t
