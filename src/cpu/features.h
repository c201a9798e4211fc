/* What this CPU can do, less what CAUSAL_CONV1D_HIDE hides. */
#ifndef CAUSAL_CONV1D_CPU_FEATURES_H
#define CAUSAL_CONV1D_CPU_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#ifdef CAUSAL_CONV1D_EMULATED_MPS /* tests of the shader: no kernels of the CPU to compile */
#elif defined(__x86_64__) && defined(__GNUC__)
#define CC1D_X86 1
#elif defined(__aarch64__) && defined(__GNUC__) && defined(__ORDER_LITTLE_ENDIAN__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CC1D_AARCH64 1
#endif

/* X(name as in CAUSAL_CONV1D_HIDE) */
#define CC1D_FEATURES(X) X(avx2) X(fma) X(f16c) X(avx512f) X(avx512bw) X(avx512vl) X(neon) X(bf16)

enum {
#define X(name) CC1D_INDEX_##name,
    CC1D_FEATURES(X)
#undef X
};

enum {
#define X(name) CC1D_##name = 1 << CC1D_INDEX_##name,
    CC1D_FEATURES(X)
#undef X
};

/* The first entry of hide that names no feature, of *length characters; NULL if there is none. */
const char *cc1d_unknown_feature(const char *hide, size_t *length);

/* Bits CC1D_*; hide is a list as in CAUSAL_CONV1D_HIDE, or NULL. */
uint32_t cc1d_cpu_features(const char *hide);

#endif
