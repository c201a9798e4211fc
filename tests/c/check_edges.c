/* Checks calls at the edge of what is allowed: outputs in slices of shared memory, padding, any
 * strides where they mean nothing, empty dimensions; and a few values by hand. */
#include "good.h"

#include <math.h>

#include "../../src/check/check.h"
#include "../../src/core/libtorch.h"

static void check_good(void)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    const causal_conv1d_threads none = {NULL, NULL};
    causal_conv1d_error error;
    f.silu = b.silu = false;
    check(causal_conv1d_forward(&f, NULL, NULL) == CAUSAL_CONV1D_OK, "forward");
    /* Batch 0, channel 1, time 0: only the last tap sees x. */
    check(memory.out[4] == before.bias[1] + before.weight[5] * before.x[4], "forward: a value");
    check(causal_conv1d_backward(&b, &none, &error) == CAUSAL_CONV1D_OK, "backward");
    float sum = 0;
    for (int i = 0; i < BATCH * SEQLEN; i++) sum += before.dout[i / SEQLEN * 12 + i % SEQLEN];
    check(memory.dbias[0] == sum, "backward: dbias");
    check(!memcmp(memory.x, before.x, sizeof before.x) &&
              !memcmp(memory.weight, before.weight, sizeof before.weight) &&
              !memcmp(memory.bias, before.bias, sizeof before.bias) &&
              !memcmp(memory.dout, before.dout, sizeof before.dout),
          "inputs were written");
    fill();
    b.dbias = (causal_conv1d_tensor){0};
    check(causal_conv1d_backward(&b, NULL, NULL) == CAUSAL_CONV1D_OK, "backward without dbias");
    check(!memcmp(memory.dbias, before.dbias, sizeof before.dbias), "dbias was written");
    fill();
    /* Inputs may share memory with each other. */
    b.dout.data = b.x.data;
    check(causal_conv1d_backward(&b, NULL, NULL) == CAUSAL_CONV1D_OK, "backward with dout = x");
    fill();
    /* Final states may take the place of the initial ones. */
    f.initial_states = f.final_states = of_states(memory.initial);
    check(causal_conv1d_forward(&f, NULL, &error) == CAUSAL_CONV1D_OK, "states in place");
    check(memory.initial[0] == before.x[2] && memory.initial[1] == before.x[3], "a final state");
    fill();
    causal_conv1d_update_args u = good_update();
    check(causal_conv1d_update(&u, NULL, &error) == CAUSAL_CONV1D_OK, "update");
    check(!memcmp(memory.state + 24, before.x, sizeof(float) * 12) &&
              !memcmp(memory.state, before.x + 12, sizeof(float) * 12) &&
              !memcmp(memory.state + 12, before.state + 12, sizeof(float) * 12),
          "states after update");
    fill();
    causal_conv1d_varlen_states_args v = good_varlen_states();
    check(causal_conv1d_varlen_states(&v, NULL, &error) == CAUSAL_CONV1D_OK, "varlen_states");
    for (int n = 0; n < 2; n++)
        for (int d = 0; d < DIM; d++)
            check(!memcmp(memory.final + (n * DIM + d) * 2,
                          before.x + d * 8 + before.packed[n + 1] - 2, sizeof(float) * 2),
                  "state of sequence %d, channel %d", n, d);
    fill();
}

/* What PyTorch would say of a storage offset: that the handle is a pointer to it. */
static AOTITorchError storage_offset(AtenTensorHandle handle, int64_t *offset)
{
    *offset = *(int64_t *)handle;
    return 0;
}

/* Slices of one memory: taken if, and only if, they share no element. */
static void check_slices(void)
{
    enum { COLUMNS = 5 };
    float buffer[BATCH * DIM * COLUMNS], columns[BATCH * DIM * COLUMNS];
    causal_conv1d_error error = {""};
    for (int column = 0; column < COLUMNS; column++) {
        causal_conv1d_update_args u = good_update();
        for (int i = 0; i < BATCH * DIM * COLUMNS; i++) buffer[i] = columns[i] = (float)i;
        u.conv_state_indices = (causal_conv1d_tensor){0};
        u.conv_state = tensor(buffer, 3, BATCH, DIM, COLUMNS - 1);
        u.x = tensor(buffer + column, 3, BATCH, DIM, 1);
        u.out.size[2] = 1;
        u.x.stride[0] = u.conv_state.stride[0] = DIM * COLUMNS;
        u.x.stride[1] = u.conv_state.stride[1] = COLUMNS;
        causal_conv1d_status status = causal_conv1d_update(&u, NULL, &error);
        if (column < COLUMNS - 1) {
            check(status == CAUSAL_CONV1D_BAD_MEMORY && strstr(error.message, "overlap with x"),
                  "x in column %d of the states", column);
            check(!memcmp(buffer, columns, sizeof buffer), "a refused update wrote");
        } else {
            check(status == CAUSAL_CONV1D_OK, "x in the column after the states: %s",
                  error.message);
            for (int i = 0; i < BATCH * DIM; i++)
                check(!memcmp(buffer + i * COLUMNS, columns + i * COLUMNS + 1, 4 * sizeof(float)) &&
                          buffer[i * COLUMNS + 4] == columns[i * COLUMNS + 4],
                      "the states of row %d", i);
        }
        fill();
    }

    /* Every second element of one memory each, and out in one that overlaps itself nowhere though
     * its strides do not nest. */
    float mixed[96], plain[24];
    causal_conv1d_forward_args f = good_forward();
    check(!causal_conv1d_forward(&f, NULL, &error), "%s", error.message);
    memcpy(plain, memory.out, sizeof plain);
    const int64_t strides[][3] = {{24, 8, 2}, {2, 4, 16}, {6, 4, 16}};
    for (int i = 0; i < 3; i++) {
        f.x.data = mixed, f.out.data = mixed + 1;
        for (int d = 0; d < 3; d++) f.x.stride[d] = f.out.stride[d] = strides[i][d];
        for (int n = 0; n < 24; n++)
            mixed[n / 12 * strides[i][0] + n / 4 % 3 * strides[i][1] + n % 4 * strides[i][2]] =
                before.x[n];
        check(!causal_conv1d_forward(&f, NULL, &error), "alternate elements: %s", error.message);
        for (int n = 0; n < 24; n++)
            check(fabsf(mixed[n / 12 * strides[i][0] + n / 4 % 3 * strides[i][1] +
                              n % 4 * strides[i][2] + 1] -
                        plain[n]) < 1e-5f,
                  "element %d of out", n);
    }
    fill();
    causal_conv1d_backward_args b = good_backward();
    b.dx.stride[0] = 2, b.dx.stride[1] = 3; /* 0, 1, .. from several elements each */
    check(causal_conv1d_backward(&b, NULL, &error) == CAUSAL_CONV1D_BAD_MEMORY, "entangled dx");
    fill();

    /* On an Apple GPU data is an object plus an offset, here of objects 16 bytes apart: only the
     * same object's offsets count.  Where nothing overlaps the call goes on to the GPU. */
    AOTITorchError (*const saved)(AtenTensorHandle, int64_t *) =
        cc1d_torch.aoti_torch_get_storage_offset;
    cc1d_torch.aoti_torch_get_storage_offset = storage_offset;
    for (int i = 0; i < 4; i++) {
        const bool same_object = i & 1, apart = i & 2;
        int64_t offsets[5] = {0, apart ? 24 : 4, 0, 0, 0};
        char *objects = (char *)memory.x;
        causal_conv1d_update_args u = good_update();
        u.conv_state_indices = (causal_conv1d_tensor){0};
        u.x = tensor(objects, 3, BATCH, DIM, 1);
        u.conv_state = tensor(objects + (same_object ? 0 : 16) + offsets[1] * 4, 3, BATCH, DIM, 4);
        u.out.size[2] = 1;
        u.weight.data = objects + 32, u.bias.data = objects + 48, u.out.data = objects + 64;
        causal_conv1d_tensor *tensors[] = {&u.x, &u.conv_state, &u.weight, &u.bias, &u.out};
        for (int j = 0; j < 5; j++)
            tensors[j]->device = CAUSAL_CONV1D_MPS, tensors[j]->handle = &offsets[j];
        causal_conv1d_status status = cc1d_check_update(&u, &error);
        check(status == (same_object && !apart ? CAUSAL_CONV1D_BAD_MEMORY : CAUSAL_CONV1D_OK),
              "%s object, offsets %s: %s", same_object ? "one" : "another",
              apart ? "apart" : "that overlap", error.message);
    }
    cc1d_torch.aoti_torch_get_storage_offset = saved;
    fill();
}

/* Packed x with times after its last sequence. */
static void check_padding(void)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    causal_conv1d_varlen_states_args v = good_varlen_states();
    causal_conv1d_error error = {""};
    const int64_t first[] = {0, 5, 8};
    f.x = v.x, f.cu_seqlens = v.cu_seqlens;
    for (int n = 0; n <= 2; n++) {
        f.out = tensor(memory.out, 3, 1, DIM, 8);
        f.cu_seqlens.size[0] = v.cu_seqlens.size[0] = n + 1;
        f.final_states = v.states = tensor(memory.final, 3, n, DIM, WIDTH - 1);
        check(!causal_conv1d_forward(&f, NULL, &error), "%d sequences: %s", n, error.message);
        float out[24];
        memcpy(out, memory.out, sizeof out);
        fill();
        causal_conv1d_forward_args alone = f;
        alone.x.size[2] = alone.out.size[2] = first[n];
        check(!causal_conv1d_forward(&alone, NULL, &error), "alone: %s", error.message);
        for (int i = 0; i < DIM * 8; i++)
            check(out[i] == (i % 8 < first[n] ? memory.out[i] : 0), "%d sequences: out %d", n, i);
        check(n == 2 || memory.final[n * DIM * 2] == before.final[n * DIM * 2], "no state");
        fill();
        check(!causal_conv1d_varlen_states(&v, NULL, &error), "%d states: %s", n, error.message);
        check(n == 0 || memory.final[1] == before.x[4], "the state of sequence 0");
        check(n == 2 || memory.final[n * DIM * 2] == before.final[n * DIM * 2], "no state");
        fill();
        b.x = f.x, b.cu_seqlens = f.cu_seqlens, b.silu = false;
        b.dout = tensor(memory.dout, 3, 1, DIM, 8), b.dx = f.out, b.dx.data = memory.dx;
        check(!causal_conv1d_backward(&b, NULL, &error), "%d sequences: %s", n, error.message);
        float sum = 0;
        for (int t = 0; t < first[n]; t++) sum += before.dout[t];
        check(memory.dbias[0] == sum, "%d sequences: dbias", n);
        for (int i = 0; i < DIM * 8; i++)
            check(i % 8 < first[n] || memory.dx[i] == 0, "%d sequences: dx %d", n, i);
        fill();
    }
}

/* Strides of dimensions of one element, and sizes and strides of tensors of none, may be anything;
 * with UBSan nothing is computed from them. */
static void check_extremes(void)
{
    const int64_t strides[] = {INT64_MIN, INT64_MAX, (int64_t)1 << 62, -1, 0};
    const int64_t huge = (int64_t)1 << 62;
    causal_conv1d_error error = {""};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++)
        for (int one = 0; one < 8; one++) {
            const int64_t size[] = {one & 1 ? 1 : BATCH, one & 2 ? 1 : DIM, one & 4 ? 1 : SEQLEN};
            causal_conv1d_forward_args f = good_forward();
            causal_conv1d_backward_args b = good_backward();
            causal_conv1d_update_args u = good_update();
            f.initial_states = of_states(memory.initial), f.final_states = of_states(memory.final);
            b.initial_states = f.initial_states, b.dinitial_states = of_states(memory.dinitial);
            u.conv_state_indices = (causal_conv1d_tensor){0};
            u.conv_state.size[0] = size[0];
            causal_conv1d_tensor *const all[] = {&f.x,
                                                 &f.out,
                                                 &b.x,
                                                 &b.dout,
                                                 &b.dx,
                                                 &u.x,
                                                 &u.out,
                                                 &f.initial_states,
                                                 &f.final_states,
                                                 &b.initial_states,
                                                 &b.dinitial_states,
                                                 &u.conv_state};
            for (int j = 0; j < 12; j++)
                for (int d = 0; d < 3; d++) {
                    if (d < 2 || j < 7) all[j]->size[d] = size[d];
                    if (all[j]->size[d] == 1) all[j]->stride[d] = strides[i];
                }
            causal_conv1d_tensor *const parameters[] = {&f.weight, &f.bias, &b.weight,  &b.bias,
                                                        &u.weight, &u.bias, &b.dweight, &b.dbias};
            for (int j = 0; j < 8; j++) {
                parameters[j]->size[0] = size[1];
                if (size[1] == 1) parameters[j]->stride[0] = strides[i];
            }
            check(!causal_conv1d_forward(&f, NULL, &error), "forward: %s", error.message);
            check(memory.out[0] != before.out[0], "a value of out");
            check(!causal_conv1d_backward(&b, NULL, &error), "backward: %s", error.message);
            check(!causal_conv1d_update(&u, NULL, &error), "update: %s", error.message);
            fill();
        }
    /* x of (huge, huge, 0) and its like, of which not a tile may be visited. */
    for (int zero = 0; zero < 3; zero++)
        for (int null = 0; null < 2; null++) {
            causal_conv1d_forward_args f = good_forward();
            causal_conv1d_backward_args b = good_backward();
            causal_conv1d_update_args u = good_update();
            causal_conv1d_tensor *const all[] = {&f.x, &f.out, &b.x, &b.dout, &b.dx, &u.x, &u.out};
            for (int j = 0; j < 7; j++)
                for (int d = 0; d < 3; d++) {
                    if (null) all[j]->data = NULL;
                    all[j]->size[d] = d == zero ? 0 : d == 1 ? DIM : huge;
                    all[j]->stride[d] = d == 1 ? INT64_MIN : INT64_MAX;
                }
            f.weight.size[0] = f.bias.size[0] = zero == 1 ? 0 : DIM;
            b.weight = u.weight = f.weight, b.bias = u.bias = f.bias;
            b.dweight.size[0] = b.dbias.size[0] = f.bias.size[0];
            u.conv_state_indices = (causal_conv1d_tensor){0};
            u.conv_state.size[0] = zero == 0 ? 0 : huge;
            u.conv_state.size[1] = f.bias.size[0];
            check(!causal_conv1d_forward(&f, NULL, &error), "empty forward: %s", error.message);
            check(!causal_conv1d_backward(&b, NULL, &error), "empty backward: %s", error.message);
            if (zero < 2)
                check(!causal_conv1d_update(&u, NULL, &error), "empty update: %s", error.message);
            check(zero == 1 || memory.dweight[0] == 0, "dweight of nothing");
            fill();
            /* Of width 1, with states that have no columns. */
            f.weight.size[1] = b.weight.size[1] = b.dweight.size[1] = 1;
            f.initial_states = tensor(NULL, 3, f.x.size[0], f.x.size[1], 0);
            f.final_states = b.initial_states = b.dinitial_states = f.initial_states;
            check(!causal_conv1d_forward(&f, NULL, &error), "no columns: %s", error.message);
            check(!causal_conv1d_backward(&b, NULL, &error), "no columns: %s", error.message);
            fill();
        }
    causal_conv1d_update_args u = good_update();
    u.x.size[0] = u.out.size[0] = u.conv_state.size[0] = INT64_MAX;
    u.x.size[1] = u.out.size[1] = u.conv_state.size[1] = u.weight.size[0] = u.bias.size[0] = 0;
    u.x.size[2] = u.out.size[2] = 1, u.conv_state_indices = (causal_conv1d_tensor){0};
    check(!causal_conv1d_update(&u, NULL, &error), "an update of no channels: %s", error.message);
    fill();
    /* No times and no memory for them, but states. */
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    for (int last = 0; last < 2; last++) {
        f.x = b.x = b.dout = tensor(NULL, 3, BATCH, DIM, 0);
        if (last) f.x.stride[1] = b.x.stride[1] = b.dout.stride[1] = 1;
        f.out = b.dx = f.x;
        f.initial_states = b.initial_states = of_states(memory.initial);
        f.final_states = of_states(memory.final), b.dinitial_states = of_states(memory.dinitial);
        b.dfinal_states = of_states(memory.dout);
        check(!causal_conv1d_forward(&f, NULL, &error), "states alone: %s", error.message);
        check(!causal_conv1d_backward(&b, NULL, &error), "states alone: %s", error.message);
        check(!memcmp(memory.final, before.initial, sizeof memory.final) &&
                  !memcmp(memory.dinitial, before.dout, sizeof memory.dinitial),
              "states over no times");
        fill();
    }
}

/* Two infinite inputs at the end of x whose products would meet as Inf - Inf at times past the end
 * alone: dx is finite, also where lanes hold segments of the time (8 channels, width 9). */
static void check_past_the_end(void)
{
    enum { D = 8, T = 400, W = 9 };
    static float x[D * T], dout[D * T], dx[D * T], weight[D * W], dweight[D * W];
    for (int i = 0; i < D * T; i++) x[i] = i % T < T - 2 ? 0.5f : INFINITY, dout[i] = 1;
    for (int i = 0; i < D * W; i++) weight[i] = i % W < W - 2 ? -1 : 1;
    const causal_conv1d_backward_args b = {.x = tensor(x, 3, 1, D, T),
                                           .weight = tensor(weight, 2, D, W, 0),
                                           .dout = tensor(dout, 3, 1, D, T),
                                           .dx = tensor(dx, 3, 1, D, T),
                                           .dweight = tensor(dweight, 2, D, W, 0),
                                           .silu = true};
    check(causal_conv1d_backward(&b, NULL, NULL) == CAUSAL_CONV1D_OK, "backward of Inf");
    for (int i = 0; i < D * T; i++) check(isfinite(dx[i]), "dx[%d] is %g", i, (double)dx[i]);
}

/* Calls on no elements at all, in both layouts, with and without memory: dweight and dbias are 0.
 */
static void check_empty(int64_t batch, int64_t dim, int64_t seqlen, bool channels_last, bool null)
{
    causal_conv1d_forward_args f = good_forward();
    causal_conv1d_backward_args b = good_backward();
    causal_conv1d_tensor *tensors[] = {&f.x, &f.out, &b.x, &b.dout, &b.dx};
    for (int i = 0; i < 5; i++) {
        *tensors[i] = tensor(null ? NULL : tensors[i]->data, 3, batch, dim, seqlen);
        if (channels_last) tensors[i]->stride[1] = 1, tensors[i]->stride[2] = dim < 9 ? 9 : dim;
    }
    f.weight.size[0] = f.bias.size[0] = dim;
    b.weight = f.weight, b.bias = f.bias;
    b.dweight.size[0] = b.dbias.size[0] = dim;
    causal_conv1d_error error = {""};
    check(causal_conv1d_forward(&f, NULL, &error) == CAUSAL_CONV1D_OK,
          "forward of (%lld,%lld,%lld): %s", (long long)batch, (long long)dim, (long long)seqlen,
          error.message);
    check(causal_conv1d_backward(&b, NULL, &error) == CAUSAL_CONV1D_OK,
          "backward of (%lld,%lld,%lld): %s", (long long)batch, (long long)dim, (long long)seqlen,
          error.message);
    if (dim > 0) {
        const struct memory zeros = {0};
        check(!memcmp(memory.dweight, zeros.dweight, sizeof zeros.dweight) &&
                  !memcmp(memory.dbias, zeros.dbias, sizeof zeros.dbias),
              "sums of nothing");
        memcpy(memory.dweight, before.dweight, sizeof zeros.dweight);
        memcpy(memory.dbias, before.dbias, sizeof zeros.dbias);
    }
    check(!memcmp(&memory, &before, sizeof memory), "an empty call wrote something");
    fill();
}

/* A thread that is lent writes wrong indices before it works, as another thread might at any time
 * after the check. */
typedef struct writer {
    int32_t *indices;
    int count, calls;
} writer;

static void write_and_run(void *user, int64_t begin, int64_t end, int64_t grain,
                          causal_conv1d_body *body, void *context)
{
    writer *w = user;
    (void)grain;
    for (int i = 0; i < w->count; i++) w->indices[i] = INT32_MAX - i;
    w->calls++;
    body(begin, end, context);
}

/* No index leads out of a tensor, whatever is written to it during a call. */
static void check_indices_that_change(void)
{
    enum { N = 16, D = 2048, T = 64, W = 4, L = 5 };
    static float x[D * T], out[2][D * T], dw[D * W], weight[D * W], state[N * D * L],
        final[N * D * 3];
    static int32_t given[N + 1];
    writer w = {given, N + 1, 0};
    const causal_conv1d_threads threads = {write_and_run, &w};
    for (int i = 0; i < D * T; i++) x[i] = (float)(i % 11) - 5;
    for (int i = 0; i < D * W; i++) weight[i] = (float)(i % 5) - 2;
    causal_conv1d_forward_args f = {.x = tensor(x, 3, 1, D, T),
                                    .weight = tensor(weight, 2, D, W, 0),
                                    .cu_seqlens = indices(given, 1, N + 1, 0),
                                    .out = tensor(out[0], 3, 1, D, T),
                                    .final_states = tensor(final, 3, N, D, W - 1)};
    causal_conv1d_backward_args b = {.x = f.x,
                                     .weight = f.weight,
                                     .cu_seqlens = f.cu_seqlens,
                                     .dout = f.x,
                                     .dx = f.out,
                                     .dweight = tensor(dw, 2, D, W, 0)};
    causal_conv1d_varlen_states_args v = {
        .x = f.x, .cu_seqlens = f.cu_seqlens, .states = f.final_states};
    causal_conv1d_update_args u = {.x = tensor(x, 3, N, D, 1),
                                   .conv_state = tensor(state, 3, N, D, L),
                                   .weight = f.weight,
                                   .conv_state_indices = indices(given, 1, N, 0),
                                   .out = tensor(out[1], 3, N, D, 1)};
    for (int lent = 0; lent < 2; lent++) { /* of packed calls the results stay what they were */
        for (int i = 0; i <= N; i++) given[i] = i * T / N;
        f.out.data = out[lent];
        causal_conv1d_status status = causal_conv1d_forward(&f, lent ? &threads : NULL, NULL);
        check(status == CAUSAL_CONV1D_OK, "forward: status %d", (int)status);
    }
    check(!memcmp(out[0], out[1], sizeof *out), "out of packed sequences, and cu_seqlens changed");
    for (int i = 0; i <= N; i++) given[i] = i * T / N;
    check(causal_conv1d_backward(&b, &threads, NULL) == CAUSAL_CONV1D_OK, "backward");
    for (int i = 0; i <= N; i++) given[i] = i * T / N;
    check(causal_conv1d_varlen_states(&v, &threads, NULL) == CAUSAL_CONV1D_OK, "varlen_states");
    for (int length = W; length <= L; length++) { /* in one pass and in two */
        for (int i = 0; i < N; i++) given[i] = N - 1 - i;
        u.conv_state.size[2] = length;
        check(causal_conv1d_update(&u, &threads, NULL) == CAUSAL_CONV1D_OK, "update");
    }
    for (int i = 0; i < N; i++) given[i] = -1 - i;
    u.cache_seqlens = u.conv_state_indices, u.conv_state_indices = (causal_conv1d_tensor){0};
    check(causal_conv1d_update(&u, &threads, NULL) == CAUSAL_CONV1D_OK, "update of a ring");
    check(w.calls >= 6, "threads were lent %d times", w.calls);
}

/* Counts what is lent in parts. */
static void count_and_run(void *user, int64_t begin, int64_t end, int64_t grain,
                          causal_conv1d_body *body, void *context)
{
    int64_t *parts = user;
    (void)grain;
    *parts += end - begin;
    body(begin, end, context);
}

/* Work grows with the elements and not with the rows: none for none, and few tiles for few. */
static void check_small_rows(void)
{
    enum { ROWS = 1 << 16 };
    static float x[ROWS], out[ROWS], state[ROWS];
    int64_t parts = 0;
    const causal_conv1d_threads threads = {count_and_run, &parts};
    float taps[2] = {0, 2};
    const causal_conv1d_tensor weight = tensor(taps, 2, 1, 2, 0);
    for (int i = 0; i < ROWS; i++) x[i] = (float)i;
    causal_conv1d_forward_args f = {
        .x = tensor(x, 3, ROWS, 1, 1), .weight = weight, .out = tensor(out, 3, ROWS, 1, 1)};
    check(causal_conv1d_forward(&f, &threads, NULL) == CAUSAL_CONV1D_OK, "rows of one element");
    check(out[1] == 2 && out[ROWS - 1] == 2 * (float)(ROWS - 1), "a value of a short row");
    check(parts <= ROWS / 1024, "%lld tiles of %d elements", (long long)parts, ROWS);
    parts = 0;
    causal_conv1d_update_args u = {.x = tensor(x, 3, ROWS, 1, 0),
                                   .conv_state = tensor(state, 3, ROWS, 1, 1),
                                   .weight = weight,
                                   .out = tensor(out, 3, ROWS, 1, 0)};
    check(causal_conv1d_update(&u, &threads, NULL) == CAUSAL_CONV1D_OK, "an update of no time");
    check(parts == 0, "%lld parts of no element", (long long)parts);
}

/* Sizes near 2^63, of tensors that have few elements or none. */
static void check_huge_sizes(void)
{
    causal_conv1d_error error = {""};
    float value = 1, result = 0, taps[4] = {0}, dtaps[4];
    causal_conv1d_forward_args f = {.x = tensor(&value, 3, 1, 1, 1),
                                    .weight = tensor(&value, 2, 1, 1, 0),
                                    .out = tensor(&result, 3, 1, 1, 1)};
    /* 520 bytes of scratch memory to a tap would be few beyond 2^64. */
    f.weight.size[1] = (int64_t)(UINT64_MAX / 520 + 1), f.weight.stride[1] = 0;
    causal_conv1d_status status = causal_conv1d_forward(&f, NULL, &error);
    check(status == CAUSAL_CONV1D_OUT_OF_MEMORY, "a huge width: %d %s", (int)status, error.message);
    for (int i = 0; i < 2; i++) {
        const int64_t size[3] = {i ? 1 : 0, i ? 0 : 1, INT64_MAX - 8000};
        f.weight = tensor(taps, 2, size[1], 4, 0);
        f.x.size[0] = size[0], f.x.size[1] = size[1], f.x.size[2] = size[2];
        f.out = f.x;
        causal_conv1d_backward_args b = {.x = f.x,
                                         .weight = f.weight,
                                         .dout = f.x,
                                         .dx = f.x,
                                         .dweight = tensor(dtaps, 2, size[1], 4, 0)};
        check(causal_conv1d_forward(&f, NULL, &error) == CAUSAL_CONV1D_OK, "%s", error.message);
        check(causal_conv1d_backward(&b, NULL, &error) == CAUSAL_CONV1D_OK, "%s", error.message);
    }
}

int main(void)
{
    fill();
    check_good();
    check_slices();
    check_padding();
    check_extremes();
    check_past_the_end();
    for (int i = 0; i < 8; i++) {
        bool last = i & 1, null = i & 2, twice = i & 4;
        check_empty(0, DIM, twice ? 0 : SEQLEN, last, null);
        check_empty(BATCH, twice ? 0 : DIM, 0, last, null);
        check_empty(twice ? 0 : BATCH, 0, SEQLEN, last, null);
        check_empty(BATCH, 0, 1, last, null);
    }
    check_indices_that_change();
    check_small_rows();
    check_huge_sizes();
    return report();
}
