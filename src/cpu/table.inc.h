/* The instances of the algorithms, and the ISA's table.  ISA, ISA_NAME, ISA_FEATURES are set. */

#define LAYOUTS(X, W, dtype) X(TIME, time, dtype, W) X(DIM, dim, dtype, W)
#define INSTANCES(X, W) LAYOUTS(X, W, FLOAT32) LAYOUTS(X, W, FLOAT16) LAYOUTS(X, W, BFLOAT16)

#define DEFINE(LAYOUT, layout, dtype, W)                                                        \
    static void forward_##layout##_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile)  \
    {                                                                                           \
        forward_##layout(args, tile, CAUSAL_CONV1D_##dtype, W);                                 \
    }                                                                                           \
    static void backward_##layout##_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile, \
                                                  void *partial)                                \
    {                                                                                           \
        backward_##layout(args, tile, partial, CAUSAL_CONV1D_##dtype, W);                       \
    }
#define DEFINE_UPDATE(W, dtype)                                                    \
    static void update_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile) \
    {                                                                              \
        update_dim(args, tile, CAUSAL_CONV1D_##dtype, W);                          \
    }
#define DEFINE_WIDTH(W)  \
    INSTANCES(DEFINE, W) \
    DEFINE_UPDATE(W, FLOAT32) DEFINE_UPDATE(W, FLOAT16) DEFINE_UPDATE(W, BFLOAT16)
CC1D_WIDTHS(DEFINE_WIDTH)

#define CASE(LAYOUT, layout, dtype, W)                                                             \
    case CC1D_VARIANT(CC1D_##LAYOUT, CAUSAL_CONV1D_##dtype, W):                                    \
        return (cc1d_kernels){forward_##layout##_##dtype##_##W, backward_##layout##_##dtype##_##W, \
                              update_##dtype##_##W};
#define CASE_WIDTH(W) INSTANCES(CASE, W)

static cc1d_kernels kernels(int64_t variant)
{
    switch (variant) {
        CC1D_WIDTHS(CASE_WIDTH)
    default: return (cc1d_kernels){0};
    }
}

const cc1d_isa ISA = {ISA_NAME, ISA_FEATURES, kernels};
