/* CPU feature detection.  __builtin_cpu_supports also asks the OS whether it saves the registers.
 */
#include "features.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef CC1D_X86
#include <cpuid.h>

static bool has_f16c(void) /* not every compiler knows it by name */
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

#define HAS_avx2 __builtin_cpu_supports("avx2")
#define HAS_fma __builtin_cpu_supports("fma")
#define HAS_f16c has_f16c()
#define HAS_avx512f __builtin_cpu_supports("avx512f")
#define HAS_avx512bw __builtin_cpu_supports("avx512bw")
#define HAS_avx512vl __builtin_cpu_supports("avx512vl")
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

uint32_t cc1d_cpu_features(const char *hide)
{
    uint32_t features = 0;
#define X(name) \
    if (HAS_##name && !(hide && listed(hide, #name))) features |= CC1D_##name;
    CC1D_FEATURES(X)
#undef X
    return features;
}
