/* Measures the stack that the kernels take, by a thread whose stack was painted before. */
#ifndef _WIN32
#define _DEFAULT_SOURCE
#include <pthread.h>
#endif

#include "good.h"

#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

#ifndef _WIN32
/* Of the 64 KB that the header states 2 are for what comes before: the arguments and their checks.
 */
enum { STACK = 1 << 18, MOST = 62 << 10, PAINT = 0xa5 };

static _Alignas(1 << 16) unsigned char stack[STACK];

/* A call, and what of the stack it left painted. */
typedef struct measured {
    const cc1d_isa *isa;
    const causal_conv1d_forward_args *forward;
    const causal_conv1d_backward_args *backward;
    const causal_conv1d_update_args *update;
    causal_conv1d_status status;
    int64_t top; /* where the call began */
} measured;

static void *call(void *argument)
{
    measured *m = argument;
    unsigned char here = 0;
    m->top = (int64_t)((uintptr_t)&here - (uintptr_t)stack);
    if (m->forward) m->status = cc1d_cpu_forward(m->isa, m->forward, false, NULL);
    if (m->backward) m->status = cc1d_cpu_backward(m->isa, m->backward, NULL);
    if (m->update) m->status = cc1d_cpu_update(m->isa, m->update, NULL);
    return NULL;
}

static int64_t deepest;

static void measure(measured m, const char *name, causal_conv1d_dtype dtype, int64_t width)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int64_t untouched = 0;
    memset(stack, PAINT, sizeof stack);
    if (pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, STACK) ||
        pthread_create(&thread, &attributes, call, &m) || pthread_join(thread, NULL))
        abort();
    pthread_attr_destroy(&attributes);
    while (stack[untouched] == PAINT) untouched++;
    const int64_t taken = m.top - untouched;
    if (taken > deepest) deepest = taken;
    check(m.status == CAUSAL_CONV1D_OK, "%s %s: status %d", m.isa->name, name, (int)m.status);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ /* those widen every frame */
    check(taken <= MOST, "%s %s, %s, width %lld: %lld bytes of stack", m.isa->name, name,
          dtype_name(dtype), (long long)width, (long long)taken);
#endif
}

/* (1, D, T), channels-last or not. */
static causal_conv1d_tensor view(void *data, causal_conv1d_dtype dtype, int64_t dim, int64_t times,
                                 bool last)
{
    causal_conv1d_tensor t = tensor(data, 3, 1, dim, times);
    t.dtype = dtype;
    if (last) t.stride[1] = 1, t.stride[2] = dim;
    return t;
}

static void check_width(const cc1d_isa *isa, causal_conv1d_dtype dtype, int64_t width, bool last)
{
    /* A kernel has the same frame for any tile. */
    enum { D = 300, T = 80 };
    static double x[D * T], y[D * T], z[D * T], weight[D * 16], dweight[D * 16], state[D * 16];
    causal_conv1d_forward_args f = {.x = view(x, dtype, D, T, last),
                                    .weight = tensor(weight, 2, D, width, 0),
                                    .out = view(y, dtype, D, T, last),
                                    .silu = true};
    causal_conv1d_backward_args b = {.x = f.x,
                                     .weight = f.weight,
                                     .dout = f.out,
                                     .dx = view(z, dtype, D, T, last),
                                     .dweight = tensor(dweight, 2, D, width, 0),
                                     .silu = true};
    causal_conv1d_update_args u = {.x = view(x, dtype, D, 1, last),
                                   .conv_state = view(state, dtype, D, width, false),
                                   .weight = f.weight,
                                   .out = view(y, dtype, D, 1, last),
                                   .silu = true};
    measure((measured){.isa = isa, .forward = &f}, last ? "forward, last" : "forward", dtype,
            width);
    measure((measured){.isa = isa, .backward = &b}, last ? "backward, last" : "backward", dtype,
            width);
    measure((measured){.isa = isa, .update = &u}, "update", dtype, width);
}

int main(void)
{
    static const causal_conv1d_dtype dtypes[] = {CAUSAL_CONV1D_FLOAT32, CAUSAL_CONV1D_FLOAT16,
                                                 CAUSAL_CONV1D_BFLOAT16, CAUSAL_CONV1D_FLOAT64};
    for (const cc1d_isa *const *isa = cc1d_isas; *isa; isa++) {
        if ((*isa)->features & ~cc1d_cpu_features(NULL)) continue;
        for (int i = 0; i < 4; i++)
            for (int64_t width = 1; width <= 9; width++)
                for (int last = 0; last < 2; last++) check_width(*isa, dtypes[i], width, last);
    }
    printf("%lld bytes of stack at the most\n", (long long)deepest);
    return report();
}
#else
int main(void)
{
    return 0;
}
#endif
