/* The C interface in one small call: a forward pass with SiLU, then its gradients.
 *
 *   cmake -B build && cmake --build build && sudo cmake --install build
 *   cc -std=c11 examples/example.c -lcausal_conv1d -o example
 *
 * Or without installing: cc -std=c11 -Iinclude examples/example.c $(find src -name '*.c') -lm */
#include <causal_conv1d.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 1, DIM = 2, SEQLEN = 6, WIDTH = 4 };

/* A tensor is a view of memory of yours: address, dtype, sizes, and strides in elements.  Rows of
 * time here, (B,D,T); for channels-last, (B,T,D) in memory, the strides of x would be
 * {DIM * SEQLEN, 1, DIM}.  Nothing is copied for either. */
static causal_conv1d_tensor sequence(float *data)
{
    return (causal_conv1d_tensor){.data = data,
                                  .dtype = CAUSAL_CONV1D_FLOAT32,
                                  .ndim = 3,
                                  .size = {BATCH, DIM, SEQLEN},
                                  .stride = {DIM * SEQLEN, SEQLEN, 1}};
}

static causal_conv1d_tensor filter(float *data)
{
    return (causal_conv1d_tensor){.data = data,
                                  .dtype = CAUSAL_CONV1D_FLOAT32,
                                  .ndim = 2,
                                  .size = {DIM, WIDTH},
                                  .stride = {WIDTH, 1}};
}

static void expect(causal_conv1d_status status, const causal_conv1d_error *error)
{
    if (status == CAUSAL_CONV1D_OK) return;
    fprintf(stderr, "%s: %s\n", causal_conv1d_status_message(status), error->message);
    exit(1);
}

static void print(const char *name, const float *values, int columns)
{
    for (int d = 0; d < DIM; d++) {
        printf("%s[%d]", name, d);
        for (int i = 0; i < columns; i++) printf(" %7.4f", (double)values[d * columns + i]);
        printf("\n");
    }
}

int main(void)
{
    float x[BATCH * DIM * SEQLEN] = {1, 2, 3, 4, 5, 6, 1, 0, 0, 0, 0, 0};
    float weight[DIM * WIDTH] = {0.25f, 0.25f, 0.25f, 0.25f, 4, 3, 2, 1}; /* mean; echo */
    float dout[BATCH * DIM * SEQLEN], out[BATCH * DIM * SEQLEN], dx[BATCH * DIM * SEQLEN];
    float dweight[DIM * WIDTH];
    causal_conv1d_error error = {""};

    /* What is left out is absent: no bias here.  NULL stands for "on this thread". */
    expect(causal_conv1d_forward(
               &(causal_conv1d_forward_args){
                   .x = sequence(x), .weight = filter(weight), .out = sequence(out), .silu = true},
               NULL, &error),
           &error);

    /* The gradients of the sum of all outputs, of which each counts 1. */
    for (int i = 0; i < BATCH * DIM * SEQLEN; i++) dout[i] = 1;
    expect(causal_conv1d_backward(&(causal_conv1d_backward_args){.x = sequence(x),
                                                                 .weight = filter(weight),
                                                                 .dout = sequence(dout),
                                                                 .dx = sequence(dx),
                                                                 .dweight = filter(dweight),
                                                                 .silu = true},
                                  NULL, &error),
           &error);

    printf("causal_conv1d %s, %s\n", causal_conv1d_version(), causal_conv1d_isa());
    print("out", out, SEQLEN);
    print("dx", dx, SEQLEN);
    print("dweight", dweight, WIDTH);
    return 0;
}
