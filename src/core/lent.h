/* What a caller lends to the call: the library has neither threads nor device memory of its own. */
#ifndef CAUSAL_CONV1D_CORE_LENT_H
#define CAUSAL_CONV1D_CORE_LENT_H

#include "../../include/causal_conv1d.h"

/* body over [0, end) on the caller's threads, if there are any and it is more than one grain. */
static inline void cc1d_for_range(const causal_conv1d_threads *threads, int64_t end, int64_t grain,
                                  causal_conv1d_body *body, void *context)
{
    if (end <= 0) return;
    if (threads && threads->for_range && end > grain)
        threads->for_range(threads->user, 0, end, grain, body, context);
    else
        body(0, end, context);
}

/* Memory of a GPU for partial sums. */
typedef struct cc1d_workspace {
    /* n float32 on x's device. */
    causal_conv1d_status (*allocate)(const causal_conv1d_tensor *x, int64_t n,
                                     causal_conv1d_tensor *memory, causal_conv1d_error *error);
    /* Called once everything that uses the memory is launched, which need not have run. */
    void (*release)(causal_conv1d_tensor *memory);
} cc1d_workspace;

typedef struct cc1d_lent {
    const causal_conv1d_threads *threads; /* NULL: the calling thread */
    const cc1d_workspace *workspace;      /* for a backward on a GPU */
} cc1d_lent;

#endif
