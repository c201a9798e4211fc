/* The PyTorch operations: from the stack to the arguments of a run, and back. */
#include "ops.h"

#include "../check/check.h"
#include "../core/error.h"
#include "../core/tensor.h"
#include "../run.h"
#include "call.h"

#define torch cc1d_torch

/* PyTorch's threads for a call, which keeps the first error of theirs: the run cannot return it. */
static void lend_threads(void *user, int64_t begin, int64_t end, int64_t grain,
                         causal_conv1d_body *body, void *context)
{
    cc1d_call *c = user;
    if (torch.torch_parallel_for(begin, end, grain, body, context) && !c->status)
        c->status = cc1d_fail(&c->error, CAUSAL_CONV1D_DEVICE_FAILED,
                              "PyTorch's threads did not finish the call: %s", cc1d_torch_reason());
}

/* Runs with what PyTorch lends, if the call is good so far; run names arguments and `lent`. */
#define RUN(c, run)                                                     \
    do {                                                                \
        const causal_conv1d_threads threads = {lend_threads, c};        \
        const cc1d_lent lent = {&threads, &cc1d_torch_workspace};       \
        causal_conv1d_status status_ = (c)->status ? (c)->status : run; \
        if (!(c)->status) (c)->status = status_;                        \
    } while (0)

/* out and, if wanted, final states of a call whose inputs are in args. */
static void run_forward(cc1d_call *c, causal_conv1d_forward_args *args, bool final_states,
                        AtenTensorHandle results[2])
{
    c->status = cc1d_check_forward_inputs(args, &c->error);
    cc1d_make_taps_contiguous(c, &args->weight);
    if (c->status) return;
    args->out = cc1d_new_like(c, &args->x, true, &results[0]);
    if (!c->status && final_states) {
        /* Like x in its layout: channels-last states beside a channels-last x. */
        causal_conv1d_tensor states = args->x;
        bool dim_first = states.stride[1] == 1;
        states.size[0] = cc1d_sequences(&args->x, &args->cu_seqlens);
        states.size[2] = args->weight.size[1] - 1;
        states.stride[1] = dim_first ? 1 : states.size[2];
        states.stride[2] = dim_first ? states.size[1] : 1;
        states.stride[0] = states.size[1] * states.size[2];
        args->final_states = cc1d_new_strided(c, states, &results[1]);
    }
    RUN(c, cc1d_forward(args, true, &lent, &c->error));
}

/* The plain call: no sequences, no states. */
static void forward_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle out[2] = {NULL, NULL};
    causal_conv1d_forward_args args = {
        .x = cc1d_view(cc1d_take(&c, stack[0])),
        .weight = cc1d_view(cc1d_take(&c, stack[1])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[2])),
        .silu = stack[3] & 1,
    };
    (void)inputs, (void)outputs;
    run_forward(&c, &args, false, out);
    cc1d_finish(&c, stack, out, 1);
}

/* An empty tensor: a result that was not asked for. */
static void new_empty(cc1d_call *c, causal_conv1d_tensor like, AtenTensorHandle *handle)
{
    like.ndim = 1, like.size[0] = 0, like.stride[0] = 1;
    if (!c->status) cc1d_new_strided(c, like, handle);
}

static void forward(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle results[2] = {NULL, NULL};
    causal_conv1d_forward_args args = {
        .x = cc1d_view(cc1d_take(&c, stack[0])),
        .weight = cc1d_view(cc1d_take(&c, stack[1])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[2])),
        .seq_idx = cc1d_view(cc1d_take_optional(&c, stack[3])),
        .cu_seqlens = cc1d_view(cc1d_take_optional(&c, stack[4])),
        .initial_states = cc1d_view(cc1d_take_optional(&c, stack[5])),
        .silu = stack[6] & 1,
    };
    bool final_states = stack[7] & 1;
    (void)inputs, (void)outputs;
    run_forward(&c, &args, final_states, results);
    if (!final_states) new_empty(&c, args.x, &results[1]);
    cc1d_finish(&c, stack, results, 2);
}

static bool share_unit_stride(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b)
{
    return (a->stride[1] == 1 && b->stride[1] == 1) || (a->stride[2] == 1 && b->stride[2] == 1);
}

/* dx, dweight, dbias and, if there are initial states, dinitial_states; empty tensors for what
 * there is not. */
static void run_backward(cc1d_call *c, causal_conv1d_backward_args *args, AtenTensorHandle dout,
                         AtenTensorHandle *results)
{
    c->status = cc1d_check_backward_inputs(args, &c->error);
    if (!c->status) args->dx = cc1d_new_like(c, &args->x, true, &results[0]);
    if (!c->status) args->dweight = cc1d_new_like(c, &args->weight, false, &results[1]);
    if (!c->status && cc1d_present(&args->bias))
        args->dbias = cc1d_new_like(c, &args->bias, false, &results[2]);
    else
        new_empty(c, args->weight, &results[2]);
    if (!c->status && cc1d_present(&args->initial_states))
        args->dinitial_states = cc1d_new_like(c, &args->initial_states, true, &results[3]);
    /* Where dout lies across dx (a gradient that was transposed or expanded), a copy is faster. */
    if (!c->status && !share_unit_stride(&args->dout, &args->dx))
        args->dout = cc1d_copied(c, &args->dx, true, dout, &dout);
    cc1d_make_taps_contiguous(c, &args->weight);
    RUN(c, cc1d_backward(args, &lent, &c->error));
}

static void backward(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle dout = cc1d_take(&c, stack[0]), results[4] = {NULL, NULL, NULL, NULL};
    causal_conv1d_backward_args args = {
        .dout = cc1d_view(dout),
        .dfinal_states = cc1d_view(cc1d_take_optional(&c, stack[1])),
        .x = cc1d_view(cc1d_take(&c, stack[2])),
        .weight = cc1d_view(cc1d_take(&c, stack[3])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[4])),
        .seq_idx = cc1d_view(cc1d_take_optional(&c, stack[5])),
        .cu_seqlens = cc1d_view(cc1d_take_optional(&c, stack[6])),
        .initial_states = cc1d_view(cc1d_take_optional(&c, stack[7])),
        .silu = stack[8] & 1,
    };
    (void)inputs, (void)outputs;
    run_backward(&c, &args, dout, results);
    if (!results[3]) new_empty(&c, args.x, &results[3]);
    cc1d_finish(&c, stack, results, 4);
}

/* The same for the plain call. */
static void backward_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle dout = cc1d_take(&c, stack[0]), results[4] = {NULL, NULL, NULL, NULL};
    causal_conv1d_backward_args args = {
        .dout = cc1d_view(dout),
        .x = cc1d_view(cc1d_take(&c, stack[1])),
        .weight = cc1d_view(cc1d_take(&c, stack[2])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
    };
    (void)inputs, (void)outputs;
    run_backward(&c, &args, dout, results);
    cc1d_finish(&c, stack, results, 3);
}

/* A (B,D) tensor as (B,D,1). */
static void add_time(causal_conv1d_tensor *t)
{
    t->ndim = 3, t->size[2] = 1, t->stride[2] = 1;
}

static void run_update(cc1d_call *c, causal_conv1d_update_args *args, AtenTensorHandle *out)
{
    causal_conv1d_tensor x = args->x;
    if (x.ndim == 2) add_time(&args->x);
    c->status = cc1d_check_update_inputs(args, &c->error);
    cc1d_make_taps_contiguous(c, &args->weight);
    if (!c->status) args->out = cc1d_new_like(c, &x, true, out);
    if (!c->status && x.ndim == 2) add_time(&args->out);
    RUN(c, cc1d_update(args, &lent, &c->error));
}

static void update(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle out = NULL;
    causal_conv1d_update_args args = {
        .x = cc1d_view(cc1d_take(&c, stack[0])),
        .conv_state = cc1d_view(cc1d_take(&c, stack[1])),
        .weight = cc1d_view(cc1d_take(&c, stack[2])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
        .cache_seqlens = cc1d_view(cc1d_take_optional(&c, stack[5])),
        .conv_state_indices = cc1d_view(cc1d_take_optional(&c, stack[6])),
    };
    (void)inputs, (void)outputs;
    run_update(&c, &args, &out);
    cc1d_finish(&c, stack, &out, 1);
}

/* The plain call: no ring, no pool. */
static void update_plain(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle out = NULL;
    causal_conv1d_update_args args = {
        .x = cc1d_view(cc1d_take(&c, stack[0])),
        .conv_state = cc1d_view(cc1d_take(&c, stack[1])),
        .weight = cc1d_view(cc1d_take(&c, stack[2])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
    };
    (void)inputs, (void)outputs;
    run_update(&c, &args, &out);
    cc1d_finish(&c, stack, &out, 1);
}

/* The update as a function: out, and what becomes of the state.  Given `rows`, it is they that are
 * updated, with row_indices; conv_state and conv_state_indices, whence they come, are checked. */
static void update_functional(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle x = cc1d_take(&c, stack[0]), rows = cc1d_take(&c, stack[1]);
    AtenTensorHandle results[2] = {NULL, NULL};
    causal_conv1d_update_args args = {
        .x = cc1d_view(x),
        .conv_state = cc1d_view(rows),
        .weight = cc1d_view(cc1d_take(&c, stack[2])),
        .bias = cc1d_view(cc1d_take_optional(&c, stack[3])),
        .silu = stack[4] & 1,
        .cache_seqlens = cc1d_view(cc1d_take_optional(&c, stack[5])),
        .conv_state_indices = cc1d_view(cc1d_take_optional(&c, stack[6])),
    };
    AtenTensorHandle given = cc1d_take_optional(&c, stack[7]);
    causal_conv1d_tensor row_indices = cc1d_view(cc1d_take_optional(&c, stack[8]));
    (void)inputs, (void)outputs;
    if (args.x.ndim == 2) add_time(&args.x);
    c.status = cc1d_check_update_inputs(&args, &c.error);
    if (given) rows = given, args.conv_state_indices = row_indices;
    args.x = cc1d_view(x), args.conv_state = cc1d_view(rows);
    if (!c.status) args.conv_state = cc1d_copied(&c, &args.conv_state, false, rows, &results[1]);
    if (!c.status) run_update(&c, &args, &results[0]);
    cc1d_finish(&c, stack, results, 2);
}

static void varlen_states(StableIValue *stack, uint64_t inputs, uint64_t outputs)
{
    cc1d_call c = {0};
    AtenTensorHandle states = NULL;
    causal_conv1d_tensor x = cc1d_view(cc1d_take(&c, stack[0]));
    causal_conv1d_varlen_states_args args = {.cu_seqlens = cc1d_view(cc1d_take(&c, stack[1]))};
    int64_t state_len = (int64_t)stack[2];
    (void)inputs, (void)outputs;
    if (x.ndim != 2)
        c.status = cc1d_fail(&c.error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected 2D tensor x (total, dim), got %dD", x.ndim);
    else if (state_len < 0)
        c.status = cc1d_fail(&c.error, CAUSAL_CONV1D_BAD_SHAPE, "Expected state_len >= 0, got %lld",
                             (long long)state_len);
    if (!c.status) {
        args.x = x;
        args.x.ndim = 3, args.x.size[0] = 1, args.x.stride[0] = 0;
        args.x.size[1] = x.size[1], args.x.stride[1] = x.stride[1];
        args.x.size[2] = x.size[0], args.x.stride[2] = x.stride[0];
        c.status = cc1d_check_packed_inputs(&args.x, &args.cu_seqlens, &c.error);
    }
    const int64_t sequences = args.cu_seqlens.size[0] - 1, least = sequences > 0 ? sequences : 1;
    if (!c.status && state_len > 0 && x.size[1] > 0 &&
        least > INT64_MAX / 16 / x.size[1] / state_len)
        c.status = cc1d_fail(&c.error, CAUSAL_CONV1D_BAD_SHAPE,
                             "Expected a state_len whose states fit 63 bits, got %lld",
                             (long long)state_len);
    if (!c.status) {
        causal_conv1d_tensor like = args.x; /* (N,D,L), channels-last as x usually is */
        like.size[0] = sequences, like.size[2] = state_len;
        like.stride[0] = state_len * like.size[1], like.stride[1] = 1;
        like.stride[2] = like.size[1];
        args.states = cc1d_new_strided(&c, like, &states);
    }
    RUN(&c, causal_conv1d_varlen_states(&args, lent.threads, &c.error));
    cc1d_finish(&c, stack, &states, 1);
}

/* The .._plain operations make small calls cheap: they have the fewest arguments, and no derivative
 * is registered for them, which would take every call through Python. */
#define FORWARD_SCHEMA                                                             \
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? seq_idx, Tensor? cu_seqlens," \
    " Tensor? initial_states, bool silu, bool return_final_states)"                \
    " -> (Tensor out, Tensor final_states)"

#define BACKWARD_SCHEMA                                                           \
    "(Tensor dout, Tensor? dfinal_states, Tensor x, Tensor weight, Tensor? bias," \
    " Tensor? seq_idx, Tensor? cu_seqlens, Tensor? initial_states, bool silu)"    \
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial_states)"

const cc1d_operation cc1d_operations[] = {
    {"forward", "forward" FORWARD_SCHEMA, forward},
    {"forward_plain", "forward_plain(Tensor x, Tensor weight, Tensor? bias, bool silu) -> Tensor",
     forward_plain},
    {"backward", "backward" BACKWARD_SCHEMA, backward},
    {"backward_plain",
     "backward_plain(Tensor dout, Tensor x, Tensor weight, Tensor? bias, bool silu)"
     " -> (Tensor dx, Tensor dweight, Tensor dbias)",
     backward_plain},
    {"update",
     "update(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias, bool silu,"
     " Tensor? cache_seqlens, Tensor? conv_state_indices) -> Tensor",
     update},
    {"update_plain",
     "update_plain(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias, bool silu)"
     " -> Tensor",
     update_plain},
    {"update_functional",
     "update_functional(Tensor x, Tensor conv_state, Tensor weight, Tensor? bias, bool silu,"
     " Tensor? cache_seqlens, Tensor? conv_state_indices, Tensor? rows, Tensor? row_indices)"
     " -> (Tensor out, Tensor new_state)",
     update_functional},
    {"varlen_states", "varlen_states(Tensor x, Tensor cu_seqlens, int state_len) -> Tensor",
     varlen_states},
    {NULL, NULL, NULL},
};
