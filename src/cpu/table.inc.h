/* The instances of the algorithms, and the ISA's table.  ISA, ISA_NAME, ISA_FEATURES are set; with
 * ONLY_BF16 also OTHER_KERNELS, the function that has those of the other dtypes. */

#define LAYOUTS(X, W, dtype) X(TIME, time, dtype, W) X(DIM, dim, dtype, W)
#ifdef ONLY_BF16
#define DTYPES(X, W) X(W, BFLOAT16)
#else
#define DTYPES(X, W) X(W, FLOAT32) X(W, FLOAT16) X(W, BFLOAT16)
#define OTHER_KERNELS(variant) ((void)(variant), (cc1d_kernels){0})
#endif

/* One algorithm after the other, in the object as well, since what is used is not put off:
 * neighbours that look alike make a compressed library a seventh smaller. */
#define KERNEL __attribute__((used)) static void
#define DEFINE_FORWARD(layout, dtype, W)                                                  \
    KERNEL forward_##layout##_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile) \
    {                                                                                     \
        forward_##layout(args, tile, CAUSAL_CONV1D_##dtype, W);                           \
    }
#define DEFINE_BACKWARD(layout, dtype, W)                                                  \
    KERNEL backward_##layout##_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile, \
                                             void *partial)                                \
    {                                                                                      \
        backward_##layout(args, tile, partial, CAUSAL_CONV1D_##dtype, W);                  \
    }
#define DEFINE_UPDATE(W, dtype)                                               \
    KERNEL update_##dtype##_##W(const cc1d_args *args, const cc1d_tile *tile) \
    {                                                                         \
        update_dim(args, tile, CAUSAL_CONV1D_##dtype, W);                     \
    }
#define FORWARD_TIME(W, dtype) DEFINE_FORWARD(time, dtype, W)
#define FORWARD_DIM(W, dtype) DEFINE_FORWARD(dim, dtype, W)
#define BACKWARD_TIME(W, dtype) DEFINE_BACKWARD(time, dtype, W)
#define BACKWARD_DIM(W, dtype) DEFINE_BACKWARD(dim, dtype, W)
#define FORWARDS_TIME(W) DTYPES(FORWARD_TIME, W)
#define FORWARDS_DIM(W) DTYPES(FORWARD_DIM, W)
#define BACKWARDS_TIME(W) DTYPES(BACKWARD_TIME, W)
#define BACKWARDS_DIM(W) DTYPES(BACKWARD_DIM, W)
#define UPDATES(W) DTYPES(DEFINE_UPDATE, W)
CC1D_WIDTHS(FORWARDS_TIME)
CC1D_WIDTHS(FORWARDS_DIM)
CC1D_WIDTHS(BACKWARDS_TIME)
CC1D_WIDTHS(BACKWARDS_DIM)
CC1D_WIDTHS(UPDATES)

#define CASE(LAYOUT, layout, dtype, W)                                                             \
    case CC1D_VARIANT(CC1D_##LAYOUT, CAUSAL_CONV1D_##dtype, W):                                    \
        return (cc1d_kernels){forward_##layout##_##dtype##_##W, backward_##layout##_##dtype##_##W, \
                              update_##dtype##_##W, 0};
#define CASE_LAYOUTS(W, dtype) LAYOUTS(CASE, W, dtype)
#define CASE_WIDTH(W) DTYPES(CASE_LAYOUTS, W)

static cc1d_kernels kernels(int64_t variant)
{
    switch (variant) {
        CC1D_WIDTHS(CASE_WIDTH)
    default: return OTHER_KERNELS(variant);
    }
}

static cc1d_kernels any(bool f64)
{
#ifdef ONLY_BF16
    return OTHER_ANY(f64);
#else
    return f64 ? (cc1d_kernels){forward_any_f64, backward_any_f64, NULL, 8}
               : (cc1d_kernels){forward_any_f32, backward_any_f32, NULL, 16};
#endif
}

const cc1d_isa ISA = {ISA_NAME, ISA_FEATURES, kernels, any};
