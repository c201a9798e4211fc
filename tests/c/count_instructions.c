/* Instructions retired per element, for each ISA of this CPU: of a call, what 128 more times cost
 * (4 in the scalar code) over its elements, with bias, SiLU and width 4.  Counted by single steps
 * of a traced child, some minutes, so that it works where there are no counters, as in most virtual
 * machines. Linux. */
#define _DEFAULT_SOURCE
#include "testing.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

typedef causal_conv1d_tensor tensor;

enum { DIM = 64, WIDTH = 4, MOST = DIM * 1024 };

static float memory[4][MOST], taps[2][DIM * WIDTH], biases[2][DIM];

static tensor like_x(int i, causal_conv1d_dtype dtype, bool channels_last, int64_t seqlen)
{
    tensor t = {.data = memory[i], .dtype = dtype, .ndim = 3, .size = {1, DIM, seqlen}};
    t.stride[0] = DIM * seqlen;
    t.stride[1] = channels_last ? 1 : seqlen, t.stride[2] = channels_last ? DIM : 1;
    return t;
}

static void call(const cc1d_isa *isa, causal_conv1d_dtype dtype, bool channels_last, bool backward,
                 int64_t seqlen)
{
    const tensor x = like_x(0, dtype, channels_last, seqlen);
    tensor weight = {.data = taps[0], .dtype = dtype, .ndim = 2, .size = {DIM, WIDTH}};
    tensor bias = {.data = biases[0], .dtype = dtype, .ndim = 1, .size = {DIM}, .stride = {1}};
    weight.stride[0] = WIDTH, weight.stride[1] = 1;
    if (!backward) {
        const causal_conv1d_forward_args args = {.x = x,
                                                 .weight = weight,
                                                 .bias = bias,
                                                 .out = like_x(1, dtype, channels_last, seqlen),
                                                 .silu = true};
        cc1d_cpu_forward(isa, &args, false, NULL);
        return;
    }
    causal_conv1d_backward_args args = {.x = x,
                                        .weight = weight,
                                        .bias = bias,
                                        .dout = like_x(2, dtype, channels_last, seqlen),
                                        .dx = like_x(3, dtype, channels_last, seqlen),
                                        .dweight = weight,
                                        .dbias = bias,
                                        .silu = true};
    args.dweight.data = taps[1], args.dbias.data = biases[1];
    cc1d_cpu_backward(isa, &args, NULL);
}

static void wait_for_stop(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
        abort();
}

/* Instructions that a child takes from one SIGSTOP, before the call, to the next, after it. */
static int64_t count(const cc1d_isa *isa, causal_conv1d_dtype dtype, bool channels_last,
                     bool backward, int64_t seqlen)
{
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) abort();
        raise(SIGSTOP);
        call(isa, dtype, channels_last, backward, seqlen);
        raise(SIGSTOP);
        _exit(0);
    }
    wait_for_stop(child);
    int64_t instructions = 0;
    for (int status = 0;; instructions++) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL)) abort();
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) abort();
        if (WSTOPSIG(status) == SIGSTOP) break;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return instructions;
}

int main(void)
{
    const uint32_t have = cc1d_cpu_features(getenv("CAUSAL_CONV1D_HIDE"));
    printf("%-24s", "instructions per element");
    for (int i = 0; cc1d_isas[i]; i++)
        if ((cc1d_isas[i]->features & ~have) == 0) printf("%10s", cc1d_isas[i]->name);
    printf("\n");
    for (int backward = 0; backward < 2; backward++)
        for (causal_conv1d_dtype dtype = CAUSAL_CONV1D_FLOAT32; dtype <= CAUSAL_CONV1D_BFLOAT16;
             dtype++)
            for (int last = 0; last < 2; last++) {
                printf("%-9s%s%-11s", backward ? "backward" : "forward", dtype_name(dtype),
                       last ? " ch-last" : "");
                for (int i = 0; cc1d_isas[i]; i++) {
                    const cc1d_isa *isa = cc1d_isas[i];
                    if ((isa->features & ~have) != 0) continue;
                    const int64_t more = strcmp(isa->name, "scalar") ? 128 : 4;
                    int64_t n = count(isa, dtype, last, backward, 2 * more) -
                                count(isa, dtype, last, backward, more);
                    printf("%10.2f", (double)n / (double)(more * DIM));
                    fflush(stdout);
                }
                printf("\n");
            }
    return 0;
}
