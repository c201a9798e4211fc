/* Sequences and their states: where a sequence lies, and what its state becomes. */
#include <string.h>

#include "../check.h"
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
        s.column =
            modulo(modulo(cc1d_index(&args->cache_seqlens, n), args->states.size[2]) - (width - 1),
                   args->states.size[2]);
    return s;
}

typedef struct mover {
    const cc1d_args *args;
    const tensor *states;
    int64_t size;                /* bytes of an element */
    int64_t dim_size, dim_tiles; /* channels of a task, tasks of a sequence */
} mover;

/* The elements (i, d.., k) of t. */
typedef struct channels {
    char *data;
    int64_t step;
} channels;

static channels at(const mover *m, const tensor *t, int64_t i, int64_t d, int64_t k)
{
    int64_t offset = i * t->stride[0] + d * t->stride[1] + k * t->stride[2];
    return (channels){(char *)t->data + offset * m->size, t->stride[1] * m->size};
}

/* n channels of one column; from.data NULL: 0. */
static void copy(const mover *m, channels to, channels from, int64_t n)
{
#define COPY(bytes)                                                          \
    for (int64_t i = 0; i < n; i++) {                                        \
        if (from.data)                                                       \
            memcpy(to.data + i * to.step, from.data + i * from.step, bytes); \
        else                                                                 \
            memset(to.data + i * to.step, 0, bytes);                         \
    }
    if (from.data == to.data && from.data) return; /* nothing moved */
    if (from.data && to.step == m->size && from.step == m->size)
        memcpy(to.data, from.data, (size_t)(n * m->size));
    else if (m->size == 2)
        COPY(2)
    else if (m->size == 4)
        COPY(4)
    else
        COPY(8)
#undef COPY
}

/* Columns ascend, so that `states` may be the states that are read. */
static void move(const mover *m, const cc1d_sequence *s, int64_t d, int64_t n)
{
    const tensor *before = &m->args->states, *states = m->states;
    for (int64_t j = 0; j < states->size[2]; j++) {
        int64_t t = s->length - states->size[2] + j;
        channels from = {NULL, 0};
        if (t >= 0)
            from = at(m, &m->args->x, s->batch, d, s->start + t);
        else if (before->dtype)
            from = at(m, before, s->state, d, before->size[2] + t);
        copy(m, at(m, states, s->state, d, j), from, n);
    }
}

static void write_ring(const mover *m, const cc1d_sequence *s, int64_t position, int64_t d,
                       int64_t n)
{
    int64_t length = m->states->size[2], t = s->length > length ? s->length - length : 0;
    position = modulo(position, length);
    for (; t < s->length; t++)
        copy(m, at(m, m->states, s->state, d, modulo(position + t, length)),
             at(m, &m->args->x, s->batch, d, t), n);
}

static void move_tasks(int64_t begin, int64_t end, void *context)
{
    const mover *m = context;
    const cc1d_args *args = m->args;
    for (int64_t i = begin; i < end; i++) {
        int64_t b = i / m->dim_tiles, d = i % m->dim_tiles * m->dim_size;
        int64_t n = args->x.size[1] - d < m->dim_size ? args->x.size[1] - d : m->dim_size;
        cc1d_sequence s = cc1d_sequence_at(args, b);
        if (s.state < 0)
            for (int64_t t = 0; t < args->x.size[2]; t++)
                copy(m, at(m, &args->out, b, d, t), (channels){NULL, 0}, n);
        else if (args->cache_seqlens.dtype)
            write_ring(m, &s, cc1d_index(&args->cache_seqlens, b), d, n);
        else
            move(m, &s, d, n);
    }
}

void cc1d_move_states(const cc1d_args *args, const tensor *states,
                      const causal_conv1d_threads *threads)
{
    mover m = {args, states, (int64_t)cc1d_dtype_size(states->dtype), 1024, 0};
    int64_t count = cc1d_sequences(&args->x, &args->cu_seqlens);
    m.dim_tiles = (args->x.size[1] + m.dim_size - 1) / m.dim_size;
    cc1d_for_range(threads, count * m.dim_tiles, 8, move_tasks, &m);
}
