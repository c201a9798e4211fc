/* Two elements share a byte where the distance between them, a sum of multiples of the strides, is
 * less than an element.  Which distances there are is searched for from the largest stride down. */
#include "overlap.h"

#include <assert.h>

#include "../core/error.h"
#include "../core/libtorch.h"
#include "../core/tensor.h"

/* A multiple of step > 0, from 0 to most times; what the terms from here on can add up to at the
 * most, and the greatest common divisor of their steps. */
typedef struct term {
    int64_t step, most, reach, divisor;
} term;

/* Whether terms, steps falling, can add up to a number in [low, high]. */
typedef struct search {
    term terms[6];
    int count, effort;
    int64_t low, high;
} search;

static int64_t divisor_of(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

/* Adds the multiples first..last of step; false if numbers overflow. */
static bool add(search *s, int64_t step, int64_t first, int64_t last)
{
    int64_t least, most = last - first;
    if (step == 0) return true;
    if (__builtin_mul_overflow(step, step > 0 ? first : last, &least) ||
        __builtin_sub_overflow(s->low, least, &s->low) ||
        __builtin_sub_overflow(s->high, least, &s->high))
        return false;
    if (most == 0) return true;
    if (step < 0) step = -step;
    int i = 0;
    while (i < s->count && s->terms[i].step > step) i++;
    if (i < s->count && s->terms[i].step == step)
        return !__builtin_add_overflow(s->terms[i].most, most, &s->terms[i].most);
    for (int j = s->count++; j > i; j--) s->terms[j] = s->terms[j - 1];
    s->terms[i] = (term){step, most, 0, 0};
    return true;
}

static bool found(search *s, int i, int64_t low, int64_t high)
{
    if (low <= 0 && high >= 0) return true;
    if (i == s->count || high < 0 || low > s->terms[i].reach) return false;
    const term t = s->terms[i];
    if (high / t.divisor == (low - 1) / t.divisor) return false; /* no multiple of it between */
    int64_t below = i + 1 < s->count ? s->terms[i + 1].reach : 0;
    int64_t first = low > below ? (low - below - 1) / t.step + 1 : 0, last = high / t.step;
    for (int64_t n = first; n <= last && n <= t.most; n++)
        if (--s->effort < 0 || found(s, i + 1, low - n * t.step, high - n * t.step)) return true;
    return false;
}

static bool run(search *s)
{
    int64_t reach = 0, divisor = 0;
    for (int i = s->count - 1; i >= 0; i--) {
        term *t = &s->terms[i];
        int64_t own;
        if (__builtin_mul_overflow(t->step, t->most, &own) ||
            __builtin_add_overflow(reach, own, &reach))
            return true;
        t->reach = reach;
        t->divisor = divisor = divisor_of(t->step, divisor);
    }
    s->effort = CC1D_OVERLAP_EFFORT;
    return found(s, 0, s->low, s->high);
}

bool cc1d_overlap(const causal_conv1d_tensor *a, const causal_conv1d_tensor *b, int64_t distance)
{
    const int64_t a_size = (int64_t)cc1d_dtype_size(a->dtype);
    const int64_t b_size = (int64_t)cc1d_dtype_size(b->dtype);
    search s = {.count = 0};
    if (__builtin_sub_overflow(1 - b_size, distance, &s.low) ||
        __builtin_sub_overflow(a_size - 1, distance, &s.high))
        return true;
    for (int i = 0; i < b->ndim; i++)
        if (b->size[i] > 1 && !add(&s, b->stride[i] * b_size, 0, b->size[i] - 1)) return true;
    for (int i = 0; i < a->ndim; i++)
        if (a->size[i] > 1 && !add(&s, a->stride[i] * a_size, 1 - a->size[i], 0)) return true;
    return run(&s);
}

bool cc1d_overlaps_itself(const causal_conv1d_tensor *t)
{
    const int64_t size = (int64_t)cc1d_dtype_size(t->dtype);
    int64_t stride[3], most[3], span = 0; /* of the dimensions that have a stride */
    int count = 0;
    bool nested = true;
    for (int i = t->ndim - 1; i >= 0; i--) { /* the shortest first, as they mostly are */
        if (t->size[i] == 1) continue;
        const int64_t own = t->stride[i] < 0 ? -t->stride[i] : t->stride[i];
        int j = count++;
        for (; j > 0 && stride[j - 1] > own; j--) stride[j] = stride[j - 1], most[j] = most[j - 1];
        stride[j] = own, most[j] = t->size[i] - 1;
    }
    /* The usual case: each steps over all that the shorter ones reach. */
    for (int i = 0; i < count; i++) {
        nested = nested && stride[i] > span;
        span += most[i] * stride[i];
    }
    if (nested) return false;
    /* Of two elements, the one that is further on in the last dimension in which they differ. */
    for (int i = 0; i < count; i++) {
        search s = {.low = 1 - size, .high = size - 1};
        for (int j = 0; j <= i; j++)
            if (stride[j] == 0 || !add(&s, stride[j] * size, j == i ? 1 : -most[j], most[j]))
                return true;
        if (run(&s)) return true;
    }
    return false;
}

/* The bytes that a tensor spans, from `begin` up to `end`, and where its element (0,0,0) lies: none
 * if it is absent or empty.  They are addresses, but on an Apple GPU, where data is an object plus
 * an offset, places in the storage that belongs to the object. */
typedef struct bytes {
    uintptr_t storage, data, begin, end;
} bytes;

static bytes span(const causal_conv1d_tensor *t)
{
    int64_t low, high, offset = 0;
    if (!cc1d_present(t) || !cc1d_extent(t, &low, &high) || low == high) return (bytes){0, 0, 0, 0};
    bytes b = {.data = (uintptr_t)t->data};
    if (t->device == CAUSAL_CONV1D_MPS) {
        if (t->handle) cc1d_torch.aoti_torch_get_storage_offset(t->handle, &offset);
        b.data = (uintptr_t)offset * cc1d_dtype_size(t->dtype);
        b.storage = (uintptr_t)t->data - b.data;
    }
    b.begin = b.data + (uintptr_t)low, b.end = b.data + (uintptr_t)high;
    return b;
}

causal_conv1d_status cc1d_check_writes(const cc1d_named *outputs, int n_outputs,
                                       const cc1d_named *inputs, int n_inputs,
                                       causal_conv1d_error *error)
{
    bytes spans[16];
    assert(n_outputs + n_inputs <= (int)(sizeof spans / sizeof *spans));
    for (int i = 0; i < n_outputs; i++) spans[i] = span(outputs[i].t);
    for (int i = 0; i < n_inputs; i++) spans[n_outputs + i] = span(inputs[i].t);
    for (int i = 0; i < n_outputs; i++) {
        if (spans[i].begin == spans[i].end) continue;
        if (cc1d_overlaps_itself(outputs[i].t))
            return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                             "Expected %s without elements that share memory, got such strides",
                             outputs[i].name);
        for (int j = i + 1; j < n_outputs + n_inputs; j++) {
            if (spans[i].storage != spans[j].storage || spans[i].begin >= spans[j].end ||
                spans[j].begin >= spans[i].end)
                continue;
            const cc1d_named other = j < n_outputs ? outputs[j] : inputs[j - n_outputs];
            if (cc1d_overlap(outputs[i].t, other.t, (int64_t)(spans[j].data - spans[i].data)))
                return cc1d_fail(error, CAUSAL_CONV1D_BAD_MEMORY,
                                 "Expected %s in memory of its own, got an overlap with %s",
                                 outputs[i].name, other.name);
        }
    }
    return CAUSAL_CONV1D_OK;
}
