/* Between tensors of any dtype and strides and rows of REAL in scratch memory, each row one time of
 * as many lanes as 64 bytes hold: pack and unpack, and the columns of a group of lanes by them. */

#define COLUMNS ((int)(64 / sizeof(REAL)))
#define VL ((int)(sizeof(V) / sizeof(REAL)))

INLINE V NAME(get)(const REAL *p)
{
    return VEC(load)(p, REAL_DTYPE);
}

INLINE void NAME(put)(REAL *p, V v)
{
    VEC(store)(p, REAL_DTYPE, v);
}

enum { NAME(AT_ONCE) = 64 }; /* rows of 16-bit elements that are moved before they are converted */

/* n rows from the elements of t that lie `step` apart. */
INLINE void NAME(pack_as)(REAL *rows, const tensor *t, const int64_t *element, int lanes,
                          int64_t step, int64_t n, const causal_conv1d_dtype dtype)
{
    const int size = (int)cc1d_dtype_size(dtype);
    char *data = t->data;
    if (are_neighbours(element, lanes)) {
        const char *p = data + element[0] * size;
        for (int64_t r = 0; r < n; r++, p += step * size, rows += COLUMNS) {
            int l = 0;
            __builtin_prefetch(p + AHEAD * step * size);
            for (; l + VL <= lanes; l += VL) NAME(put)(rows + l, VEC(load)(p + l * size, dtype));
            if (l < lanes) NAME(put)(rows + l, VEC(load_n)(p + l * size, dtype, lanes - l));
        }
    } else if (step == 1 && n >= VL) {
        for (int l = 0; l < lanes; l += VL) /* by lines of the cache, of which few fit one set */
            for (int64_t r = 0; r < n; r += VL) {
                V v[VL];
                if (r > n - VL) r = n - VL; /* the last two may overlap */
                EACH (i, VL) {
                    const char *p = data + (element[l + i] + r) * size;
                    __builtin_prefetch(p + AHEAD_IN_ROW);
                    v[i] = VEC(load)(p, dtype);
                }
                VEC(transpose)(v);
                EACH (i, VL) NAME(put)(rows + (r + i) * COLUMNS + l, v[i]);
            }
    } else if (size == sizeof(REAL)) {
        move_elements((char *)rows, COLUMNS, data, element, lanes, step, n, size, true);
    } else {
        ALIGNED char raw[NAME(AT_ONCE) * COLUMNS * sizeof(REAL)];
        for (int64_t r = 0; r < n; r += NAME(AT_ONCE), data += NAME(AT_ONCE) * step * size) {
            const int64_t count = n - r < NAME(AT_ONCE) ? n - r : NAME(AT_ONCE);
            move_elements(raw, COLUMNS, data, element, lanes, step, count, size, true);
            for (int64_t i = 0; i < count * COLUMNS; i += VL)
                NAME(put)(rows + r * COLUMNS + i, VEC(load)(raw + i * size, dtype));
        }
    }
}

/* The other way. */
INLINE void NAME(unpack_as)(const REAL *rows, const tensor *t, const int64_t *element, int lanes,
                            int64_t step, int64_t n, const causal_conv1d_dtype dtype)
{
    const int size = (int)cc1d_dtype_size(dtype);
    char *data = t->data;
    if (are_neighbours(element, lanes)) {
        char *p = data + element[0] * size;
        for (int64_t r = 0; r < n; r++, p += step * size, rows += COLUMNS) {
            int l = 0;
            __builtin_prefetch(p + AHEAD * step * size, 1);
            for (; l + VL <= lanes; l += VL) VEC(store)(p + l * size, dtype, NAME(get)(rows + l));
            if (l < lanes) VEC(store_n)(p + l * size, dtype, NAME(get)(rows + l), lanes - l);
        }
    } else if (step == 1 && n >= VL) {
        for (int l = 0; l < lanes; l += VL)
            for (int64_t r = 0; r < n; r += VL) {
                V v[VL];
                if (r > n - VL) r = n - VL;
                EACH (i, VL) v[i] = NAME(get)(rows + (r + i) * COLUMNS + l);
                VEC(transpose)(v);
                EACH (i, VL) {
                    char *p = data + (element[l + i] + r) * size;
                    if (l + i >= lanes) break;
                    __builtin_prefetch(p + AHEAD_IN_ROW, 1);
                    VEC(store)(p, dtype, v[i]);
                }
            }
    } else if (size == sizeof(REAL)) {
        move_elements((char *)rows, COLUMNS, data, element, lanes, step, n, size, false);
    } else {
        ALIGNED char raw[NAME(AT_ONCE) * COLUMNS * sizeof(REAL)];
        for (int64_t r = 0; r < n; r += NAME(AT_ONCE), data += NAME(AT_ONCE) * step * size) {
            const int64_t count = n - r < NAME(AT_ONCE) ? n - r : NAME(AT_ONCE);
            for (int64_t i = 0; i < count * COLUMNS; i += VL)
                VEC(store)(raw + i * size, dtype, NAME(get)(rows + r * COLUMNS + i));
            move_elements(raw, COLUMNS, data, element, lanes, step, count, size, false);
        }
    }
}

/* Of the two, the instance for t's dtype; a single lane goes on to the plain loop behind. */
#define MOVE_CASE(move, dtype)                                               \
    case CAUSAL_CONV1D_##dtype:                                              \
        NAME(move)(rows, t, element, lanes, step, n, CAUSAL_CONV1D_##dtype); \
        return;
#define MOVE_BY_DTYPE(move)              \
    if (lanes > 1) switch (t->dtype) {   \
            REAL_DTYPES(MOVE_CASE, move) \
        default: break;                  \
        }

/* n rows of the first lanes, from elements of any dtype. */
static __attribute__((noinline)) void
NAME(pack)(REAL *rows, const tensor *t, const int64_t *element, int lanes, int64_t step, int64_t n)
{
    MOVE_BY_DTYPE(pack_as)
    for (int l = 0; l < lanes; l++)
        for (int64_t r = 0; r < n; r++)
            rows[r * COLUMNS + l] = (REAL)cc1d_load(t->data, t->dtype, element[l] + r * step);
}

static __attribute__((noinline)) void NAME(unpack)(const REAL *rows, const tensor *t,
                                                   const int64_t *element, int lanes, int64_t step,
                                                   int64_t n)
{
    MOVE_BY_DTYPE(unpack_as)
    for (int l = 0; l < lanes; l++)
        for (int64_t r = 0; r < n; r++)
            cc1d_store(t->data, t->dtype, element[l] + r * step, (double)rows[r * COLUMNS + l]);
}
#undef MOVE_CASE
#undef MOVE_BY_DTYPE

static void NAME(clear)(REAL *rows, int lanes, int64_t n)
{
    for (int64_t r = 0; r < n; r++)
        for (int l = 0; l < lanes; l++) rows[r * COLUMNS + l] = 0;
}

/* The columns of t, x or dout, at n times of some of the lanes, the first of which is lane l: of
 * their history before time 0, 0 beyond the end. */
static void NAME(load_lanes)(const lane_group *g, const tensor *t, int l, int lanes, int64_t time,
                             int64_t n, REAL *rows)
{
    const cc1d_args *args = g->args;
    const tensor *states = &args->states;
    const int64_t at = g->begin[l] + time, history = at < -n ? n : at < 0 ? -at : 0;
    const int64_t left = g->length - at, end = left < history ? history : left < n ? left : n;
    int64_t element[MOST_LANES];
    if (history > 0 && !states->dtype) NAME(clear)(rows + l, lanes, history);
    for (int64_t r = 0, some; r < history && states->dtype; r += some) { /* a ring may wrap */
        const int64_t column =
            (g->first.column + args->weight.size[1] - 1 + at + r) % states->size[2];
        some = states->size[2] - column < history - r ? states->size[2] - column : history - r;
        state_elements(g, states, column, element);
        NAME(pack)(rows + r * COLUMNS + l, states, element + l, lanes, states->stride[2], some);
    }
    if (end > history) {
        time_elements(g, t, time + history, element);
        NAME(pack)(rows + history * COLUMNS + l, t, element + l, lanes, t->stride[2],
                   end - history);
    }
    NAME(clear)(rows + end * COLUMNS + l, lanes, n - end);
}

static void NAME(load_times)(const lane_group *g, const tensor *t, int64_t time, int64_t n,
                             REAL *rows)
{
    bool inside = true;
    for (int l = 0; l < g->lanes; l++)
        inside = inside && g->begin[l] + time >= 0 && g->begin[l] + time + n <= g->length;
    if (g->one_time || inside)
        NAME(load_lanes)(g, t, 0, g->lanes, time, n, rows);
    else
        for (int l = 0; l < g->lanes; l++) NAME(load_lanes)(g, t, l, 1, time, n, rows);
}

static void NAME(store_times)(const lane_group *g, const tensor *t, int64_t time, int64_t n,
                              const REAL *rows)
{
    int64_t element[MOST_LANES];
    time_elements(g, t, time, element);
    NAME(unpack)(rows, t, element, g->lanes, t->stride[2], n);
}
