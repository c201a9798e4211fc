/* The instances of the algorithms, and the ISA's table.  ISA, ISA_NAME, ISA_FEATURES are set; with
 * ONLY_BF16 also OTHER_KERNELS, the function that has those of the other dtypes. */

#define LAYOUTS(X, W, dtype) X(TIME, time, dtype, W) X(DIM, dim, dtype, W)
#ifdef ONLY_BF16
#define DTYPES(X, W) X(W, BFLOAT16)
#else
#define DTYPES(X, W) X(W, FLOAT32) X(W, FLOAT16) X(W, BFLOAT16)
#define OTHER_KERNELS(variant) ((void)(variant), (cc1d_kernels){0})
#endif

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
#define DEFINE_LAYOUTS(W, dtype) LAYOUTS(DEFINE, W, dtype) DEFINE_UPDATE(W, dtype)
#define DEFINE_WIDTH(W) DTYPES(DEFINE_LAYOUTS, W)
CC1D_WIDTHS(DEFINE_WIDTH)

#define CASE(LAYOUT, layout, dtype, W)                                                             \
    case CC1D_VARIANT(CC1D_##LAYOUT, CAUSAL_CONV1D_##dtype, W):                                    \
        return (cc1d_kernels){forward_##layout##_##dtype##_##W, backward_##layout##_##dtype##_##W, \
                              update_##dtype##_##W};
#define CASE_LAYOUTS(W, dtype) LAYOUTS(CASE, W, dtype)
#define CASE_WIDTH(W) DTYPES(CASE_LAYOUTS, W)

static cc1d_kernels kernels(int64_t variant)
{
    switch (variant) {
        CC1D_WIDTHS(CASE_WIDTH)
    default: return OTHER_KERNELS(variant);
    }
}

const cc1d_isa ISA = {ISA_NAME, ISA_FEATURES, kernels};
