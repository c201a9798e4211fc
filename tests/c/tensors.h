/* Random tensors for the tests: any dtype, layout and kind of value, in memory whose end or
 * beginning is a page that may not be touched. */
#ifndef TENSORS_H
#define TENSORS_H

#include "testing.h"

#ifdef _WIN32
#include <windows.h>
#undef OUT /* empty words of its headers */
#undef far
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

typedef causal_conv1d_tensor tensor;

static uint64_t random_state;

static inline int64_t below(int64_t n)
{
    return (int64_t)(next_random(&random_state) % (uint64_t)n);
}

static inline bool chance(int64_t n)
{
    return below(n) == 0;
}

/* Memory for one tensor, between two pages that may not be touched. */
enum { ARENA = 1 << 26, MARGIN = 256, CANARY = 0xff /* NaN in every floating-point dtype */ };

static inline char *make_arena(void)
{
#ifdef _WIN32
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    size_t page = system.dwPageSize;
    char *p = VirtualAlloc(NULL, ARENA + 2 * page, MEM_RESERVE, PAGE_NOACCESS);
    if (!p || !VirtualAlloc(p + page, ARENA, MEM_COMMIT, PAGE_READWRITE)) abort();
#else
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, ARENA + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, ARENA, PROT_READ | PROT_WRITE)) abort();
#endif
    return p + page;
}

/* Bytes from element (0,0,0) to the first, returned, and those from the first past the last. */
static inline int64_t span(const tensor *t, int64_t *bytes)
{
    int64_t size = element_size(t->dtype), low = 0, high = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (t->size[i] == 0) return *bytes = 0;
        *(t->stride[i] < 0 ? &low : &high) += (t->size[i] - 1) * t->stride[i];
    }
    *bytes = (high - low) * size;
    return low * size;
}

/* Gives t memory flush against one guard page, and canaries there and in a margin before it. */
static inline void place(tensor *t, char *arena)
{
    int64_t bytes, low = span(t, &bytes);
    bool front = chance(2);
    if (bytes + MARGIN > ARENA) abort();
    memset(front ? arena : arena + ARENA - bytes - MARGIN, CANARY, (size_t)(bytes + MARGIN));
    t->data = (front ? arena : arena + ARENA - bytes) - low;
}

static inline bool untouched(const tensor *t, const char *arena)
{
    int64_t bytes, low = span(t, &bytes);
    const char *first = (char *)t->data + low, *p = first == arena ? arena : first - MARGIN;
    return (unsigned char)*p == CANARY && memcmp(p, p + 1, (size_t)(bytes + MARGIN) - 1) == 0;
}

/* Elements; 0 of a tensor that is absent. */
static inline int64_t count(const tensor *t)
{
    int64_t n = t->dtype ? 1 : 0;
    for (int i = 0; i < t->ndim; i++) n *= t->size[i];
    return n;
}

/* Goes through the elements of a tensor of up to 3 dimensions, the last running fastest. */
typedef struct cursor {
    const tensor *t;
    int64_t at[3];
    char *p;
} cursor;

static inline void advance(cursor *c)
{
    int64_t offset = 0;
    for (int i = c->t->ndim - 1; i >= 0; i--) {
        offset += c->t->stride[i];
        if (++c->at[i] < c->t->size[i]) break;
        offset -= c->t->size[i] * c->t->stride[i], c->at[i] = 0;
    }
    c->p += offset * element_size(c->t->dtype);
}

static inline cursor start(const tensor *t)
{
    return (cursor){t, {0, 0, 0}, t->data};
}

/* The bits of an element, on a little-endian machine. */
static inline uint64_t bits_at(const cursor *c)
{
    uint64_t bits = 0;
    memcpy(&bits, c->p, (size_t)element_size(c->t->dtype));
    return bits;
}

static inline void set_bits(const cursor *c, uint64_t bits)
{
    memcpy(c->p, &bits, (size_t)element_size(c->t->dtype));
}

static inline void *alloc(int64_t n, size_t size)
{
    void *p = calloc((size_t)n + 1, size);
    if (!p) abort();
    return p;
}

/* Takes the results out of t and leaves canaries in their place. */
static inline uint64_t *take(const tensor *t)
{
    int64_t n = count(t);
    uint64_t *bits = alloc(n, sizeof *bits);
    cursor c = start(t);
    for (int64_t i = 0; i < n; i++, advance(&c)) bits[i] = bits_at(&c), set_bits(&c, UINT64_MAX);
    return bits;
}

static inline double *read_all(const tensor *t)
{
    int64_t n = count(t);
    double *v = alloc(n, sizeof *v);
    cursor c = start(t);
    for (int64_t i = 0; i < n; i++, advance(&c)) v[i] = decode(t->dtype, bits_at(&c));
    return v;
}

/* REALS of about one size.  INTEGERS so small that every sum is exact: without SiLU not one
 * product may be missing.  SPECIALS: reals among which are NaN, Inf, denormals, huge values, -0. */
typedef enum values { REALS, INTEGERS, SPECIALS } values;
static const char *const value_names[] = {"reals", "integers", "specials"};

typedef enum layout { TIME, DIM, ANY } layout; /* which dimension has stride 1 */

/* Random strides: rows of time, rows of channels or any order and step; gaps behind rows, and
 * the outer dimensions at times backwards or, in an input, expanded. */
static inline void lay_out(tensor *t, layout layout, bool input)
{
    int order[3] = {2, 1, 0}, last = t->ndim - 1; /* innermost first */
    int64_t step = layout == ANY && chance(2) ? 2 + below(2) : 1;
    for (int i = 0; i < t->ndim; i++) order[i] = last - i;
    if (layout == DIM) order[0] = 1, order[1] = 2;
    for (int i = last; i > 0 && layout == ANY; i--) {
        int j = (int)below(i + 1), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (int i = 0; i < t->ndim; i++) {
        int64_t size = t->size[order[i]], *stride = &t->stride[order[i]];
        bool free = i > 0 || layout == ANY;
        *stride = free && chance(8) ? -step : step;
        if (size == 1 && chance(4)) *stride = below(100) - 50; /* means nothing then */
        step = step * (size > 1 ? size : 1) + (chance(3) ? below(6) : 0);
        if (input && free && chance(12)) *stride = 0;
    }
}

static const causal_conv1d_dtype dtypes[] = {CAUSAL_CONV1D_FLOAT32, CAUSAL_CONV1D_FLOAT16,
                                             CAUSAL_CONV1D_BFLOAT16, CAUSAL_CONV1D_FLOAT64};

static inline uint64_t random_bits(causal_conv1d_dtype dtype, values values, int scale)
{
    format f = format_of(dtype);
    uint64_t sign = (uint64_t)below(2) << (8 * f.size - 1);
    uint64_t one = (uint64_t)1 << f.fraction, exponent = (f.inf / one - 1) / 2;
    if (values == INTEGERS) return encode(dtype, (double)(below(17) - 8));
    if (values == SPECIALS && chance(16)) switch (below(6)) {
        /* Every second NaN has all bits set: rounding it must not carry. */
        case 0:
            return sign | (f.inf + one - 1 - (uint64_t)(chance(2) ? 0 : below((int64_t)one - 1)));
        case 1: return sign | f.inf;
        case 2: return sign | (uint64_t)below((int64_t)one);               /* denormal or 0 */
        case 3: return sign | (f.inf - 1 - (uint64_t)below((int64_t)one)); /* huge */
        default: return sign;
        }
    return sign |
           ((exponent - 6 + (uint64_t)(below(8) + scale)) * one + (uint64_t)below((int64_t)one));
}

#endif
