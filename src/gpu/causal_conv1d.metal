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
// - Wide windows, of 9 to 256 taps, are bound by arithmetic: threadgroup memory holds what a group
//   reads more than once, and a thread keeps 16 sums for each tap that it fetches.
// - Backward leaves partial sums of dweight and dbias that `reduce` adds in a fixed order: no
//   atomics, the same bits each time.
// - Offsets are 32 bits wide unless the tensors need 64 (INDEX): Apple GPUs multiply 64-bit
//   integers in several steps.
// - Accumulators are float; there is no double.  The one transcendental is precise::exp, whose
//   argument is held to where nothing overflows, so the compiler's fast math, under which
//   infinities may be ignored, changes no finite result beyond rounding.
//
// Arguments are tensors and `constant long &` numbers, in the slots that args.h lists; strides are
// in elements.  weight (D,W) is contiguous and lies on 16 bytes.  An absent tensor has another one
// in its place.  No kernel is given memory that it writes to twice: Apple's compiler assumes so.
//
// The build joins this file and its parts, which stand at its end, into the one text that is
// embedded, shipped, and that CAUSAL_CONV1D_METAL_PATH replaces.  It is compiled once per variant,
// behind a preamble that sets these:
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
#ifndef SINGLE // columns of the state in an update of one time without a ring; 0: any update
#define SINGLE 0
#endif

#define WANTED(kernel) (KERNEL == CC1D_ALL || KERNEL == kernel)
#define ANY_WIDTH (WIDTH < CC1D_GPU_MIN_WIDTH || WIDTH > CC1D_GPU_MAX_WIDTH)
#define WIDE (WIDTH > CC1D_GPU_MAX_WIDTH && WIDTH <= CC1D_GPU_WIDE_WIDTH)

typedef INDEX offset;

#include "shader/elements.metal"
#include "shader/silu.metal"
#include "shader/sequences.metal"
#include "shader/windows.metal"
#include "shader/arguments.metal"
#include "shader/forward.metal"
#include "shader/forward_wide.metal"
#include "shader/backward.metal"
#include "shader/backward_time.metal"
#include "shader/backward_dim.metal"
#include "shader/update.metal"
