/* Sequences and their states: where a sequence lies, and what its state becomes. */
#include <string.h>

#include "dtype.h"
#include "kernels.h"

typedef causal_conv1d_tensor tensor;

int64_t cc1d_index(const tensor *t, int64_t i)
{
    i *= t->stride[0];
    return t->dtype == CAUSAL_CONV1D_INT32 ? ((const int32_t *)t->data)[i]
                                           : ((const int64_t *)t->data)[i];
}

int64_t cc1d_seq_idx(const tensor *seq_idx, int64_t b, int64_t t)
{
    int64_t i = b * seq_idx->stride[0] + (t < 0 ? 0 : t) * seq_idx->stride[1];
    return seq_idx->dtype == CAUSAL_CONV1D_INT32 ? ((const int32_t *)seq_idx->data)[i]
                                                 : ((const int64_t *)seq_idx->data)[i];
}

/* Remainder in [0, n). */
static int64_t modulo(int64_t a, int64_t n)
{
    int64_t r = n ? a % n : 0;
    return r < 0 ? r + n : r;
}

cc1d_sequence cc1d_sequence_at(const cc1d_args *args, int64_t n)
{
    int64_t width = args->weight.ndim == 2 ? args->weight.size[1] : 1;
    cc1d_sequence s = {n, 0, args->x.size[2], n, args->states.size[2] - (width - 1)};
    if (args->cu_seqlens.dtype) {
        s.batch = 0;
        s.start = cc1d_index(&args->cu_seqlens, n);
        s.length = cc1d_index(&args->cu_seqlens, n + 1) - s.start;
    }
    if (args->conv_state_indices.dtype) {
        s.state = cc1d_index(&args->conv_state_indices, n);
        if (s.state < 0) s.length = 0;
    }
    if (args->cache_seqlens.dtype)
        s.column = modulo(cc1d_index(&args->cache_seqlens, n) - (width - 1), args->states.size[2]);
    return s;
}

typedef struct mover {
    const cc1d_args *args;
    const tensor *states;
    int64_t size; /* bytes of an element */
} mover;

static char *at(const tensor *t, int64_t size, int64_t i, int64_t j, int64_t k)
{
    return (char *)t->data + (i * t->stride[0] + j * t->stride[1] + k * t->stride[2]) * size;
}

static void copy(char *to, const char *from, int64_t size)
{
    switch (size) {
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    default: memcpy(to, from, 8);
    }
}

/* One channel; columns ascend, so that `states` may be the states that are read. */
static void move_channel(const mover *m, const cc1d_sequence *s, int64_t d)
{
    const tensor *x = &m->args->x, *before = &m->args->states, *states = m->states;
    int64_t length = states->size[2], size = m->size;
    for (int64_t j = 0; j < length; j++) {
        char *to = at(states, size, s->state, d, j);
        int64_t t = s->length - length + j;
        if (t >= 0)
            copy(to, at(x, size, s->batch, d, s->start + t), size);
        else if (before->dtype)
            copy(to, at(before, size, s->state, d, before->size[2] + t), size);
        else
            memset(to, 0, (size_t)size);
    }
}

static void write_ring(const mover *m, int64_t n, const cc1d_sequence *s, int64_t d)
{
    const tensor *x = &m->args->x, *states = m->states;
    int64_t length = states->size[2], t = s->length > length ? s->length - length : 0;
    int64_t position = cc1d_index(&m->args->cache_seqlens, n);
    for (; t < s->length; t++)
        copy(at(states, m->size, s->state, d, modulo(position + t, length)),
             at(x, m->size, s->batch, d, t), m->size);
}

static void move_channels(int64_t begin, int64_t end, void *context)
{
    const mover *m = context;
    int64_t dim = m->args->x.size[1];
    cc1d_sequence s = {0};
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / dim, d = i % dim;
        if (i == begin || d == 0) s = cc1d_sequence_at(m->args, n);
        if (s.state >= 0 && m->args->cache_seqlens.dtype)
            write_ring(m, n, &s, d);
        else if (s.state >= 0)
            move_channel(m, &s, d);
        else
            for (int64_t t = 0; t < m->args->x.size[2]; t++)
                memset(at(&m->args->out, m->size, n, d, t), 0, (size_t)m->size);
    }
}

void cc1d_move_states(const cc1d_args *args, const tensor *states,
                      const causal_conv1d_threads *threads)
{
    mover m = {args, states, (int64_t)cc1d_dtype_size(states->dtype)};
    int64_t count = args->cu_seqlens.dtype ? args->cu_seqlens.size[0] - 1 : args->x.size[0];
    cc1d_for_range(threads, count * args->x.size[1], 8192, move_channels, &m);
}
