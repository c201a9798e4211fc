/* Checks src/core/dtype.h against the formats' definition: every fp16 and bf16 value, every
 * midpoint between two of them with its neighbours, a sample of all floats, tricky doubles. */
#include "testing.h"

#include "../../src/core/dtype.h"

typedef struct half {
    causal_conv1d_dtype dtype;
    float (*from)(uint16_t);
    uint16_t (*to)(float);
} half;

static bool same(const half *h, uint16_t a, uint64_t b)
{
    return a == b || (isnan(decode(h->dtype, a)) && isnan(decode(h->dtype, b)));
}

static bool float_good(const half *h, float f)
{
    return same(h, h->to(f), encode(h->dtype, f));
}

/* One rounding of the double, in place of two by way of float. */
static bool double_good(const half *h, double v)
{
    uint16_t stored[4]; /* cc1d_store could be asked for 8 bytes */
    cc1d_store(stored, h->dtype, 0, v);
    return same(h, h->to(cc1d_to_odd(v)), encode(h->dtype, v)) &&
           same(h, stored[0], encode(h->dtype, v));
}

static void check_values(const half *h)
{
    const char *name = dtype_name(h->dtype);
    long bad_from = 0, bad_back = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        double want = decode(h->dtype, i);
        float got = h->from((uint16_t)i);
        if (isnan(want) ? !isnan(got) : got != want || !signbit(got) != !signbit(want)) bad_from++;
        if (!same(h, h->to(got), i)) bad_back++;
    }
    check(bad_from == 0, "%s: %ld of 65536 values read wrongly", name, bad_from);
    check(bad_back == 0, "%s: %ld of 65536 values not stored as read", name, bad_back);
}

static void check_midpoints(const half *h)
{
    const char *name = dtype_name(h->dtype);
    format f = format_of(h->dtype);
    long bad_float = 0, bad_double = 0;
    for (uint32_t i = 0; i < f.inf; i++) {
        double low = decode(h->dtype, i), unit = ldexp(1, unit_exponent(f, low));
        float middle = (float)(low + unit / 2);
        float floats[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
        double doubles[] = {middle, nextafter(middle, 0), nextafter(middle, INFINITY),
                            (double)middle * (1 - 0x1p-40), (double)middle * (1 + 0x1p-40)};
        for (int j = 0; j < 3; j++)
            bad_float += !float_good(h, floats[j]) + !float_good(h, -floats[j]);
        for (int j = 0; j < 5; j++)
            bad_double += !double_good(h, doubles[j]) + !double_good(h, -doubles[j]);
        /* The definition itself, once more by hand: ties go to the even neighbour. */
        bad_float += h->to(middle) != i + (i & 1);
    }
    check(bad_float == 0, "%s: %ld floats near midpoints rounded wrongly", name, bad_float);
    check(bad_double == 0, "%s: %ld doubles near midpoints rounded wrongly", name, bad_double);
}

static void check_samples(const half *h)
{
    const char *name = dtype_name(h->dtype);
    const double tricky[] = {0,
                             0x1p-1074,
                             0x1p-1022,
                             0x1p-150,
                             0x1.8p-150,
                             0x1p-149,
                             0x1p-134,
                             0x1p-133,
                             0x1.8p-134,
                             0x1p-126,
                             0x1p-25,
                             0x1.000001p-25,
                             0x1p-24,
                             65504,
                             65519.999999,
                             65520,
                             65536,
                             0x1.fefffffffp127,
                             0x1.ffp127,
                             0x1.fffffep127,
                             0x1.ffffffp127,
                             0x1p128,
                             1e300,
                             0x1.fffffffffffffp1023,
                             INFINITY,
                             NAN};
    long bad_float = 0, bad_double = 0;
    uint64_t random = 1;
    for (uint64_t u = 0; u <= UINT32_MAX; u += 2053)
        bad_float += !float_good(h, cc1d_from_bits((uint32_t)u));
    for (size_t i = 0; i < sizeof tricky / sizeof *tricky; i++)
        bad_double += !double_good(h, tricky[i]) + !double_good(h, -tricky[i]);
    for (int i = 0; i < 2000000; i++) {
        uint64_t bits = next_random(&random);
        /* Half of them in the range of the formats, with few bits set as near-ties have. */
        if (i % 2) bits = (bits & 0x8fffffffffffffff) | (uint64_t)(880 + i % 280) << 52;
        if (i % 4 == 1) bits &= ~(uint64_t)0x3fffffffff | 1;
        double v;
        memcpy(&v, &bits, sizeof v);
        bad_double += !double_good(h, v);
    }
    check(bad_float == 0, "%s: %ld sampled floats rounded wrongly", name, bad_float);
    check(bad_double == 0, "%s: %ld doubles rounded wrongly", name, bad_double);
}

/* What holds by definition, so that an error in testing.h cannot hide one in dtype.h. */
static void check_known(void)
{
    check(cc1d_from_fp16(0x3c00) == 1 && cc1d_from_fp16(0xc000) == -2, "fp16: 1 and -2");
    check(cc1d_from_fp16(0x7bff) == 65504 && cc1d_from_fp16(1) == 0x1p-24f, "fp16: the range");
    check(cc1d_from_bf16(0x3f80) == 1 && cc1d_from_bf16(0xc000) == -2, "bf16: 1 and -2");
    check(cc1d_from_bf16(0x7f7f) == 0x1.fep127f && cc1d_from_bf16(1) == 0x1p-133f,
          "bf16: the range");
    check(cc1d_to_fp16(65519) == 0x7bff && cc1d_to_fp16(65520) == 0x7c00, "fp16: the last finite");
    check(cc1d_to_odd(1 + 0x1p-30) == 1 + 0x1p-23f && cc1d_to_odd(1.5) == 1.5f,
          "to_odd: the sticky bit");
    for (causal_conv1d_dtype i = CAUSAL_CONV1D_FLOAT32; i <= CAUSAL_CONV1D_FLOAT64; i++) {
        void *data = calloc(2, 8);
        if (!data) abort();
        cc1d_store(data, i, 1, -1.25);
        check(cc1d_dtype_size(i) == (size_t)format_of(i).size, "%s: size", dtype_name(i));
        check(cc1d_load(data, i, 1) == -1.25, "%s: store, then load", dtype_name(i));
        free(data);
    }
}

int main(void)
{
    const half halves[] = {{CAUSAL_CONV1D_FLOAT16, cc1d_from_fp16, cc1d_to_fp16},
                           {CAUSAL_CONV1D_BFLOAT16, cc1d_from_bf16, cc1d_to_bf16}};
    check_known();
    for (int i = 0; i < 2; i++) {
        check_values(&halves[i]);
        check_midpoints(&halves[i]);
        check_samples(&halves[i]);
    }
    return report();
}
