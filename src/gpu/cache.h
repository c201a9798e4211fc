/* Machine code kept on disk between processes.  CAUSAL_CONV1D_CACHE names the folder, or is "0" for
 * none; by default it is causal_conv1d_mps in the user's cache folder. */
#ifndef CAUSAL_CONV1D_GPU_CACHE_H
#define CAUSAL_CONV1D_GPU_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Names what was compiled: a hash of the text, the target and the compiler's version. */
typedef struct cc1d_cache_key {
    uint64_t hash[2];
} cc1d_cache_key;

cc1d_cache_key cc1d_cache_key_of(const char *text, const char *target, int compiler);

/* What was written under the key, for the caller to free; NULL if there is nothing, or it is
 * damaged. */
char *cc1d_cache_read(const cc1d_cache_key *key, size_t *size);

/* Keeps a copy.  Never fails: what cannot be written is compiled again.  Other processes see the
 * whole or nothing. */
void cc1d_cache_write(const cc1d_cache_key *key, const char *data, size_t size);

#endif
