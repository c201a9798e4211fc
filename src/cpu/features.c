/* CPU feature detection, by cpuid: __builtin_cpu_supports needs a runtime library, and Zig's has
 * none that works. */
#include "features.h"

#include <stdbool.h>
#include <string.h>

#ifdef CC1D_X86
#include <cpuid.h>

/* Whether the OS saves the registers of `mask`, bits of XCR0 (Intel SDM 1, 13.3). */
static bool saved(uint32_t mask)
{
    unsigned a, b, c = 0, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

static unsigned leaf1_c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && saved(0x6) ? c : 0;
}

static unsigned leaf7_b(uint32_t mask)
{
    unsigned a, b = 0, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && saved(mask) ? b : 0;
}

#define HAS_avx2 (leaf7_b(0x6) & bit_AVX2)
#define HAS_fma (leaf1_c() & bit_FMA)
#define HAS_f16c (leaf1_c() & bit_F16C)
#define HAS_avx512f (leaf7_b(0xe6) & bit_AVX512F)
#define HAS_avx512bw (leaf7_b(0xe6) & bit_AVX512BW)
#define HAS_avx512vl (leaf7_b(0xe6) & bit_AVX512VL)
#else
#define HAS_avx2 false
#define HAS_fma false
#define HAS_f16c false
#define HAS_avx512f false
#define HAS_avx512bw false
#define HAS_avx512vl false
#endif

#ifdef CC1D_AARCH64
#if defined(__linux__)
#include <sys/auxv.h>

static bool has_bf16(void)
{
    return getauxval(AT_HWCAP2) >> 14 & 1; /* HWCAP2_BF16, which older headers lack */
}
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool has_bf16(void)
{
    int yes = 0;
    size_t size = sizeof yes;
    return !sysctlbyname("hw.optional.arm.FEAT_BF16", &yes, &size, NULL, 0) && yes;
}
#else
static bool has_bf16(void)
{
    return false;
}
#endif

#define HAS_neon true /* a part of every aarch64 that runs an operating system */
#define HAS_bf16 has_bf16()
#else
#define HAS_neon false
#define HAS_bf16 false
#endif

/* Whether name is an entry of list, whose entries are separated by commas or spaces. */
static bool listed(const char *list, const char *name)
{
    for (size_t n; *list; list += n + (list[n] != 0)) {
        n = strcspn(list, ", ");
        if (n == strlen(name) && memcmp(list, name, n) == 0) return true;
    }
    return false;
}

const char *cc1d_unknown_feature(const char *hide, size_t *length)
{
    for (const char *entry = hide; entry && *entry; entry += *length + (entry[*length] != 0)) {
        *length = strcspn(entry, ", ");
        bool known = *length == 0;
#define X(name) known = known || (*length == strlen(#name) && !memcmp(entry, #name, *length));
        CC1D_FEATURES(X)
#undef X
        if (!known) return entry;
    }
    return NULL;
}

uint32_t cc1d_cpu_features(const char *hide)
{
    uint32_t features = 0;
#define X(name) \
    if (HAS_##name && !(hide && listed(hide, #name))) features |= CC1D_##name;
    CC1D_FEATURES(X)
#undef X
    return features;
}
