/* Sequences and their states: where a sequence lies, and what its state becomes. */
#include <stdlib.h>
#include <string.h>

#include "../core/lent.h"
#include "../core/tensor.h"
#include "kernels.h"

typedef causal_conv1d_tensor tensor;

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
        /* Too large only if another thread has written there after the check: padding, too. */
        if (s.state >= args->states.size[0]) s.state = -1;
        if (s.state < 0) s.length = 0;
    }
    if (args->cache_seqlens.dtype)
        s.column =
            modulo(modulo(cc1d_index(&args->cache_seqlens, n), args->states.size[2]) - (width - 1),
                   args->states.size[2]);
    return s;
}

/* Columns of states from which on they are moved row by row, where rows are contiguous. */
enum { LONG = 8 };

typedef struct mover {
    const cc1d_args *args;
    const tensor *states;
    int64_t size;                /* bytes of an element */
    int64_t dim_size, dim_tiles; /* channels of a task, tasks of a sequence */
} mover;

/* Elements of a tensor, `step` bytes apart. */
typedef struct elements {
    char *data;
    int64_t step;
} elements;

/* (i, d.., k) of t, or (i, d, k..), by the dimension that runs. */
static elements at(const mover *m, const tensor *t, int64_t i, int64_t d, int64_t k, int runs)
{
    int64_t offset = i * t->stride[0] + d * t->stride[1] + k * t->stride[2];
    return (elements){(char *)t->data + offset * m->size, t->stride[runs] * m->size};
}

/* n elements, which may move to where earlier ones were; from.data NULL: 0. */
static void copy(const mover *m, elements to, elements from, int64_t n)
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
        memmove(to.data, from.data, (size_t)(n * m->size));
    else if (!from.data && to.step == m->size)
        memset(to.data, 0, (size_t)(n * m->size));
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
    const tensor *x = &m->args->x, *before = &m->args->states, *states = m->states;
    const int64_t length = states->size[2], kept = length > s->length ? length - s->length : 0;
    const bool rows = length >= LONG && llabs(states->stride[2]) < llabs(states->stride[1]);
    const elements none = {NULL, 0};
    for (int64_t j = 0; j < length && !rows; j++) {
        int64_t t = s->length - length + j;
        elements from = none;
        if (t >= 0)
            from = at(m, x, s->batch, d, s->start + t, 1);
        else if (before->dtype)
            from = at(m, before, s->state, d, before->size[2] + t, 1);
        copy(m, at(m, states, s->state, d, j, 1), from, n);
    }
    for (int64_t c = d; c < d + n && rows; c++) {
        elements from = none;
        if (before->dtype && kept > 0) from = at(m, before, s->state, c, before->size[2] - kept, 2);
        copy(m, at(m, states, s->state, c, 0, 2), from, kept);
        from = at(m, x, s->batch, c, s->start + s->length - (length - kept), 2);
        copy(m, at(m, states, s->state, c, kept, 2), from, length - kept);
    }
}

static void write_ring(const mover *m, const cc1d_sequence *s, int64_t position, int64_t d,
                       int64_t n)
{
    int64_t length = m->states->size[2], t = s->length > length ? s->length - length : 0;
    position = modulo(position, length);
    for (; t < s->length; t++)
        copy(m, at(m, m->states, s->state, d, modulo(position + t, length), 1),
             at(m, &m->args->x, s->batch, d, t, 1), n);
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
                copy(m, at(m, &args->out, b, d, t, 1), (elements){NULL, 0}, n);
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
    if (cc1d_is_empty(states) && cc1d_is_empty(&args->x)) return;
    m.dim_tiles = (args->x.size[1] + m.dim_size - 1) / m.dim_size;
    cc1d_for_range(threads, count * m.dim_tiles, 8, move_tasks, &m);
}

/* Zeros: rows of time, or of channels if those lie closer together. */
typedef struct zeros {
    mover m;
    int64_t start, rows, length;
    bool time;
} zeros;

static void clear_rows(int64_t begin, int64_t end, void *context)
{
    const zeros *z = context;
    const tensor *t = z->m.states;
    for (int64_t i = begin; i < end; i++) {
        elements to =
            z->time ? at(&z->m, t, 0, i, z->start, 2) : at(&z->m, t, 0, 0, z->start + i, 1);
        copy(&z->m, to, (elements){NULL, 0}, z->length);
    }
}

void cc1d_clear_padding(const cc1d_args *args, const tensor *t,
                        const causal_conv1d_threads *threads)
{
    const int64_t start = cc1d_index(&args->cu_seqlens, args->cu_seqlens.size[0] - 1);
    const int64_t dim = t->size[1], times = t->size[2] - start;
    zeros z = {{args, t, (int64_t)cc1d_dtype_size(t->dtype), 0, 0}, start, times, dim, false};
    if (times == 0) return;
    if (llabs(t->stride[2]) < llabs(t->stride[1])) z.rows = dim, z.length = times, z.time = true;
    cc1d_for_range(threads, z.rows, 16384 / z.length + 1, clear_rows, &z);
}
