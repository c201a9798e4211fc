/* Machine code kept on disk between processes: one file per key, which begins with the key, the
 * size and a checksum. */
#include "cache.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <direct.h>
#include <process.h>
#define make_folder(path) _mkdir(path)
#define process_id _getpid
#else
#include <sys/stat.h>
#include <unistd.h>
#define make_folder(path) mkdir(path, 0777)
#define process_id getpid
#endif

typedef struct header {
    cc1d_cache_key key;
    uint64_t size, checksum;
} header;

/* FNV-1a over the bytes and their number (Fowler, Noll and Vo, IETF draft-eastlake-fnv). */
static uint64_t hash(uint64_t h, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return (h ^ size) * UINT64_C(0x100000001b3);
}

static const uint64_t seeds[2] = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x6c62272e07bb0142)};

cc1d_cache_key cc1d_cache_key_of(const char *text, const char *target, int compiler)
{
    cc1d_cache_key key;
    for (int i = 0; i < 2; i++) {
        uint64_t h = hash(seeds[i], text, strlen(text));
        h = hash(h, target, strlen(target));
        key.hash[i] = hash(h, &compiler, sizeof compiler);
    }
    return key;
}

enum { PATH_SIZE = 4096 };

/* The file of a key; false if there is no cache.  make: also makes the folders. */
static bool path_of(const cc1d_cache_key *key, bool make, char path[PATH_SIZE])
{
    const char *folder = getenv("CAUSAL_CONV1D_CACHE"), *base = NULL, *below = "";
    if (folder && (!*folder || !strcmp(folder, "0"))) return false;
    if (!folder) {
#ifdef _WIN32
        base = getenv("LOCALAPPDATA");
#else
        base = getenv("XDG_CACHE_HOME");
        if (!base || !*base) base = getenv("HOME"), below = "/.cache";
#endif
        if (!base || !*base) return false;
    }
    char root[PATH_SIZE - 64];
    int n = folder ? snprintf(root, sizeof root, "%s", folder)
                   : snprintf(root, sizeof root, "%s%s/causal_conv1d_mps", base, below);
    if (n < 0 || (size_t)n >= sizeof root) return false;
    for (char *end = root + 1; make && *end; end++)
        if (*end == '/' || *end == '\\') {
            char separator = *end;
            *end = 0;
            make_folder(root); /* may be there */
            *end = separator;
        }
    if (make) make_folder(root);
    snprintf(path, PATH_SIZE, "%s/%016llx%016llx", root, (unsigned long long)key->hash[0],
             (unsigned long long)key->hash[1]);
    return true;
}

char *cc1d_cache_read(const cc1d_cache_key *key, size_t *size)
{
    char path[PATH_SIZE], *data = NULL;
    header h;
    FILE *file = path_of(key, false, path) ? fopen(path, "rb") : NULL;
    if (!file) return NULL;
    /* A cubin has some hundred KB: a larger size is damage. */
    if (fread(&h, sizeof h, 1, file) == 1 && !memcmp(&h.key, key, sizeof *key) && h.size > 0 &&
        h.size < (1u << 30) && (data = malloc(h.size))) {
        *size = h.size;
        if (fread(data, 1, h.size, file) != h.size || hash(seeds[0], data, h.size) != h.checksum)
            free(data), data = NULL;
    }
    fclose(file);
    if (!data) remove(path); /* damaged: to be written again */
    return data;
}

void cc1d_cache_write(const cc1d_cache_key *key, const char *data, size_t size)
{
    char path[PATH_SIZE], temporary[PATH_SIZE + 32];
    header h = {*key, size, hash(seeds[0], data, size)};
    if (!path_of(key, true, path)) return;
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)process_id());
    FILE *file = fopen(temporary, "wb");
    if (!file) return;
    bool good = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(data, 1, size, file) == size;
    good = !fclose(file) && good;
    if (!good || rename(temporary, path)) remove(temporary);
}
