/* Checks which CPU features are found and hidden, which kernels that chooses, and the small public
 * functions. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "testing.h"

#include "../../src/cpu/features.h"
#include "../../src/cpu/kernels.h"

static void check_features(void)
{
    const uint32_t all = cc1d_cpu_features(NULL);
    check(cc1d_cpu_features("") == all && cc1d_cpu_features(",, ,") == all, "an empty list");
    check(cc1d_cpu_features("avx512,avx,avx512fx,AVX2,f") == all, "names that there are not");
    check(cc1d_cpu_features("avx512f,avx2") == (all & ~(uint32_t)(CC1D_avx512f | CC1D_avx2)),
          "two names");
    check(cc1d_cpu_features(" fma  avx512vl,") == (all & ~(uint32_t)(CC1D_fma | CC1D_avx512vl)),
          "names between spaces");
#define X(name) check(cc1d_cpu_features(#name) == (all & ~(uint32_t)CC1D_##name), "hiding " #name);
    CC1D_FEATURES(X)
#undef X
#define X(name) #name ","
    check(cc1d_cpu_features(CC1D_FEATURES(X)) == 0, "hiding all");
#undef X
    for (int i = 0; cc1d_isas[i]; i++)
        check(cc1d_isas[i + 1] ||
                  (!strcmp(cc1d_isas[i]->name, "scalar") && !cc1d_isas[i]->features),
              "the last ISA is scalar and needs nothing");
}

static void check_small_functions(void)
{
    char version[32];
    for (int i = CAUSAL_CONV1D_OK; i <= CAUSAL_CONV1D_OUT_OF_MEMORY; i++)
        for (int j = i; j <= CAUSAL_CONV1D_OUT_OF_MEMORY + 1; j++) {
            const char *a = causal_conv1d_status_message((causal_conv1d_status)i);
            const char *b = causal_conv1d_status_message((causal_conv1d_status)j);
            check(*a && (i == j || strcmp(a, b)), "message of status %d", i);
        }
    check(!strcmp(causal_conv1d_status_message((causal_conv1d_status)99), "unknown status"),
          "message of an unknown status");
    snprintf(version, sizeof version, "%d.%d.%d", CAUSAL_CONV1D_VERSION_MAJOR,
             CAUSAL_CONV1D_VERSION_MINOR, CAUSAL_CONV1D_VERSION_PATCH);
    check(causal_conv1d_version_number() == CAUSAL_CONV1D_VERSION_NUMBER, "version number %d",
          (int)causal_conv1d_version_number());
    check(!strcmp(causal_conv1d_version(), version), "version %s", causal_conv1d_version());
    check(!strcmp(CAUSAL_CONV1D_VERSION, version), "CAUSAL_CONV1D_VERSION");
}

int main(void)
{
    const char *const hidden = getenv("CAUSAL_CONV1D_HIDE");
    uint32_t have = cc1d_cpu_features(hidden);
    int best = 0;
    while (cc1d_isas[best]->features & ~have) best++;
    check(!strcmp(causal_conv1d_isa(), cc1d_isas[best]->name), "isa %s", causal_conv1d_isa());
#ifdef _WIN32
    _putenv("CAUSAL_CONV1D_HIDE=avx2 fma");
#else
    setenv("CAUSAL_CONV1D_HIDE", "avx2 fma", 1);
#endif
    check(!strcmp(causal_conv1d_isa(), cc1d_isas[best]->name), "CAUSAL_CONV1D_HIDE is read once");

    check_features();
    check_small_functions();
    return report();
}
