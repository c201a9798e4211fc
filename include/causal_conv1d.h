/* causal_conv1d: causal depthwise 1-D convolution, the public C11 interface.
 *
 *   out[b,d,t] = act(bias[d] + sum_k weight[d,k] * x[b,d,t-(W-1)+k]),   k = 0..W-1
 *
 * where x before t = 0 is the initial state or 0, and act is the identity or SiLU, v / (1 +
 * exp(-v)). This is the convolution in front of the state-space scan of Mamba (Gu and Dao, 2023,
 * arXiv:2312.00752, section 3.4).
 *
 * float64 x accumulates in float64, every other dtype in float32; a result is rounded once, to
 * nearest even.  The same input gives the same bits, whatever the number of threads.
 *
 * All functions are thread-safe and take up to 64 KB of stack.  Nothing is written unless every
 * argument is good. */
#ifndef CAUSAL_CONV1D_H
#define CAUSAL_CONV1D_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAUSAL_CONV1D_VERSION_MAJOR 0
#define CAUSAL_CONV1D_VERSION_MINOR 1
#define CAUSAL_CONV1D_VERSION_PATCH 0
#define CAUSAL_CONV1D_VERSION "0.1.0"
/* One number, for #if and to compare: 0.1.0 is 100. */
#define CAUSAL_CONV1D_VERSION_NUMBER                                           \
    (CAUSAL_CONV1D_VERSION_MAJOR * 10000 + CAUSAL_CONV1D_VERSION_MINOR * 100 + \
     CAUSAL_CONV1D_VERSION_PATCH)

#if defined(_WIN32) && defined(CAUSAL_CONV1D_BUILD)
#define CAUSAL_CONV1D_API __declspec(dllexport)
#elif defined(__GNUC__)
#define CAUSAL_CONV1D_API __attribute__((visibility("default")))
#else
#define CAUSAL_CONV1D_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum causal_conv1d_status {
    CAUSAL_CONV1D_OK = 0,
    CAUSAL_CONV1D_BAD_SHAPE,       /* a rank or size is wrong, or a size overflows */
    CAUSAL_CONV1D_BAD_DTYPE,       /* a dtype is unknown or not allowed there */
    CAUSAL_CONV1D_BAD_DEVICE,      /* tensors of several devices, or of one without kernels */
    CAUSAL_CONV1D_BAD_MEMORY,      /* a null pointer, or an output that overlaps something */
    CAUSAL_CONV1D_BAD_VALUE,       /* an index or length that lies outside of its tensor */
    CAUSAL_CONV1D_BAD_COMBINATION, /* arguments that exclude each other */
    CAUSAL_CONV1D_OUT_OF_MEMORY,   /* the workspace could not be allocated */
    CAUSAL_CONV1D_DEVICE_FAILED,   /* the compiler or driver of a GPU refused */
} causal_conv1d_status;

typedef enum causal_conv1d_dtype {
    CAUSAL_CONV1D_NONE = 0, /* an optional tensor that is absent */
    CAUSAL_CONV1D_FLOAT32,
    CAUSAL_CONV1D_FLOAT16,
    CAUSAL_CONV1D_BFLOAT16,
    CAUSAL_CONV1D_FLOAT64,
    CAUSAL_CONV1D_INT32, /* of indices only */
    CAUSAL_CONV1D_INT64,
    CAUSAL_CONV1D_OTHER, /* any dtype that no function here takes */
} causal_conv1d_dtype;

typedef enum causal_conv1d_device {
    CAUSAL_CONV1D_CPU = 0,
    CAUSAL_CONV1D_MPS,  /* Apple GPUs; GPUs need PyTorch in the process */
    CAUSAL_CONV1D_CUDA, /* NVIDIA GPUs */
    CAUSAL_CONV1D_OTHER_DEVICE,
} causal_conv1d_device;

/* A view of memory that the caller owns.  {0} is an absent tensor.  Element (i,j,k) lies at
 * data + (i*stride[0] + j*stride[1] + k*stride[2]) elements; strides may have any value, 0 and
 * negative ones too, and data any alignment that is a multiple of the element size.  The stride of
 * a dimension of one element means nothing.
 *
 * An element of an output must share no byte with another one, nor with an element of another
 * argument.  Slices of one memory that interleave are fine.  Where strides are so entangled that
 * some thousand steps do not show whether they do, the output is refused. */
typedef struct causal_conv1d_tensor {
    void *data;
    causal_conv1d_dtype dtype;
    causal_conv1d_device device;
    int32_t device_index;
    int32_t ndim;
    int64_t size[3];
    int64_t stride[3];
    void *handle; /* PyTorch's AtenTensorHandle of it, which a GPU needs; else NULL */
} causal_conv1d_tensor;

/* The arguments of a call: what an initialiser leaves out is absent.  struct_size is the sizeof of
 * the struct as the caller was compiled, so that later versions can add fields behind it; 0 stands
 * for that of version 0.1.
 *
 * B batch, D channels, T time, W width.  weight and bias may have any of the four floating-point
 * dtypes, independent of each other and of x; states have x's dtype, indices are int32 or int64.
 *
 * seq_idx: a tap counts only where its id equals the id at t; columns before t = 0 carry the id at
 * t = 0.  Where the id is negative (padding) out is 0 and nothing flows back.
 *
 * cu_seqlens: x has B = 1 and holds N >= 0 sequences end to end, [cu_seqlens[n], cu_seqlens[n+1])
 * each; cu_seqlens[0] = 0, cu_seqlens[N] <= T, none falls.  States then have N for B.  What comes
 * after the last sequence is padding: out is 0 there and nothing flows back.
 *
 * final_states: the last W-1 columns of initial_states (or 0) followed by x, oldest first. */
typedef struct causal_conv1d_forward_args {
    causal_conv1d_tensor x;              /* (B,D,T) */
    causal_conv1d_tensor weight;         /* (D,W), W >= 1 */
    causal_conv1d_tensor bias;           /* (D) or absent */
    causal_conv1d_tensor seq_idx;        /* (B,T) or absent; excludes cu_seqlens, final_states */
    causal_conv1d_tensor cu_seqlens;     /* (N+1) or absent */
    causal_conv1d_tensor initial_states; /* (B,D,W-1) or absent */
    causal_conv1d_tensor out;            /* (B,D,T), x's dtype; must not overlap an input */
    causal_conv1d_tensor final_states;   /* (B,D,W-1), written; absent if not wanted; may be the
                                            same memory as initial_states */
    bool silu;
    uint32_t struct_size; /* see above */
} causal_conv1d_forward_args;

/* Inputs as in the forward call, whose output is not needed: SiLU's derivative is recomputed. */
typedef struct causal_conv1d_backward_args {
    causal_conv1d_tensor x;
    causal_conv1d_tensor weight;
    causal_conv1d_tensor bias;
    causal_conv1d_tensor seq_idx;
    causal_conv1d_tensor cu_seqlens;
    causal_conv1d_tensor initial_states;
    causal_conv1d_tensor dout;            /* (B,D,T), x's dtype */
    causal_conv1d_tensor dfinal_states;   /* (B,D,W-1), x's dtype; absent counts as 0 */
    causal_conv1d_tensor dx;              /* (B,D,T), x's dtype, written */
    causal_conv1d_tensor dweight;         /* (D,W), any dtype, written */
    causal_conv1d_tensor dbias;           /* (D), any dtype, written; absent if not wanted */
    causal_conv1d_tensor dinitial_states; /* (B,D,W-1), x's dtype, written; absent if not wanted */
    bool silu;
    uint32_t struct_size; /* see above */
} causal_conv1d_backward_args;

/* One step of decoding: out as if the convolution had run on the state followed by x, which then
 * holds the last L of those columns.
 *
 * conv_state (P,D,L), L >= W-1, newest last, is updated in place; P is B without indices.
 * cache_seqlens: the state is a ring: position p is column p mod L, x goes to positions
 * cache_seqlens[b] and on, and its history lies before them.
 * conv_state_indices: row b uses conv_state[conv_state_indices[b]]; a negative index means padding:
 * out is 0, no state is touched.  No two rows may share one: an error on a CPU. */
typedef struct causal_conv1d_update_args {
    causal_conv1d_tensor x;                  /* (B,D,T) */
    causal_conv1d_tensor conv_state;         /* (P,D,L), x's dtype, updated */
    causal_conv1d_tensor weight;             /* (D,W) */
    causal_conv1d_tensor bias;               /* (D) or absent */
    causal_conv1d_tensor cache_seqlens;      /* (B) or absent */
    causal_conv1d_tensor conv_state_indices; /* (B) or absent */
    causal_conv1d_tensor out;                /* (B,D,T), x's dtype, written */
    bool silu;
    uint32_t struct_size; /* see above */
} causal_conv1d_update_args;

/* The last L columns of every packed sequence, 0 where it is shorter: states for later updates. */
typedef struct causal_conv1d_varlen_states_args {
    causal_conv1d_tensor x;          /* (1,D,T) */
    causal_conv1d_tensor cu_seqlens; /* (N+1) */
    causal_conv1d_tensor states;     /* (N,D,L), x's dtype, written */
    uint32_t struct_size;            /* see above */
} causal_conv1d_varlen_states_args;

/* Threads that the caller lends: for_range calls body over parts of [begin, end) that together
 * make up the whole, each part at least grain long but for the last, and returns when all are
 * done.  NULL stands for the calling thread.  The library makes no threads of its own. */
typedef void causal_conv1d_body(int64_t begin, int64_t end, void *context);
typedef struct causal_conv1d_threads {
    void (*for_range)(void *user, int64_t begin, int64_t end, int64_t grain,
                      causal_conv1d_body *body, void *context);
    void *user;
} causal_conv1d_threads;

/* What was wrong, naming the argument, what was expected and what came. */
typedef struct causal_conv1d_error {
    char message[1024];
} causal_conv1d_error;

/* threads and error may be NULL.  error->message is set whenever the status is not OK. */
CAUSAL_CONV1D_API causal_conv1d_status causal_conv1d_forward(const causal_conv1d_forward_args *args,
                                                             const causal_conv1d_threads *threads,
                                                             causal_conv1d_error *error);

CAUSAL_CONV1D_API causal_conv1d_status
causal_conv1d_backward(const causal_conv1d_backward_args *args,
                       const causal_conv1d_threads *threads, causal_conv1d_error *error);

CAUSAL_CONV1D_API causal_conv1d_status causal_conv1d_update(const causal_conv1d_update_args *args,
                                                            const causal_conv1d_threads *threads,
                                                            causal_conv1d_error *error);

CAUSAL_CONV1D_API causal_conv1d_status
causal_conv1d_varlen_states(const causal_conv1d_varlen_states_args *args,
                            const causal_conv1d_threads *threads, causal_conv1d_error *error);

/* One line on what a status means, for every value of the enum. */
CAUSAL_CONV1D_API const char *causal_conv1d_status_message(causal_conv1d_status status);

/* CAUSAL_CONV1D_VERSION and CAUSAL_CONV1D_VERSION_NUMBER of the library that is loaded.  One whose
 * number / 100 is another may have another binary interface. */
CAUSAL_CONV1D_API const char *causal_conv1d_version(void);
CAUSAL_CONV1D_API int32_t causal_conv1d_version_number(void);

/* The CPU kernels in use: "scalar", "avx2", "avx512", "neon" or "neon_bf16".  The environment
 * variable CAUSAL_CONV1D_HIDE, read once, hides CPU features by name, separated by commas: avx2 fma
 * f16c avx512f avx512bw avx512vl, neon bf16. */
CAUSAL_CONV1D_API const char *causal_conv1d_isa(void);

/* The names of the CPU features that were found, hidden or not: that of the i-th, NULL past the
 * last. */
CAUSAL_CONV1D_API const char *causal_conv1d_cpu_feature(int32_t i);

#ifdef __cplusplus
}
#endif

#endif
