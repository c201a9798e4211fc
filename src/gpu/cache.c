/* Machine code kept on disk between processes: one file per key, which begins with the key, the
 * size and a checksum.  A GPU runs what is read here, so only this user may have written it. */
#define _DEFAULT_SOURCE /* mkstemp, S_ISREG */
#define _DARWIN_C_SOURCE
#include "cache.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <direct.h>
#include <process.h>
#define make_folder(path) _mkdir(path)
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#define make_folder(path) mkdir(path, 0700)
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
        /* The XDG Base Directory Specification has a relative path ignored. */
        if (!base || *base != '/') base = getenv("HOME"), below = "/.cache";
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

/* Opens an entry to read; NULL if there is none, or none that this user alone can have written. */
static FILE *open_entry(const char *path)
{
#ifdef _WIN32
    return fopen(path, "rb"); /* the folder is the user's own */
#else
    struct stat found;
    /* O_NONBLOCK: opening a FIFO would wait for a writer. */
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return NULL;
    const bool own = !fstat(fd, &found) && S_ISREG(found.st_mode) && found.st_uid == geteuid() &&
                     !(found.st_mode & (S_IWGRP | S_IWOTH));
    FILE *file = own ? fdopen(fd, "rb") : NULL;
    if (!file) close(fd);
    return file;
#endif
}

/* Opens a new file beside an entry to write, and says its name. */
static FILE *open_temporary(const char *path, char temporary[PATH_SIZE + 32])
{
#ifdef _WIN32
    snprintf(temporary, PATH_SIZE + 32, "%s.%ld", path, (long)_getpid());
    return fopen(temporary, "wb");
#else
    snprintf(temporary, PATH_SIZE + 32, "%s.XXXXXX", path);
    const int fd = mkstemp(temporary); /* of mode 0600 and a random name, and never a file there */
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (fd >= 0 && !file) close(fd), remove(temporary);
    return file;
#endif
}

char *cc1d_cache_read(const cc1d_cache_key *key, size_t *size)
{
    char path[PATH_SIZE], *data = NULL;
    header h;
    FILE *file = path_of(key, false, path) ? open_entry(path) : NULL;
    if (!file) return NULL;
    /* A cubin has some hundred KB: a larger size is damage. */
    bool good = fread(&h, sizeof h, 1, file) == 1 && !memcmp(&h.key, key, sizeof *key) &&
                h.size > 0 && h.size < (1u << 30);
    if (good && (data = malloc(h.size))) {
        *size = h.size;
        good = fread(data, 1, h.size, file) == h.size && hash(seeds[0], data, h.size) == h.checksum;
    }
    fclose(file);
    if (good) return data;
    free(data);
    remove(path); /* damaged: to be written again */
    return NULL;
}

void cc1d_cache_write(const cc1d_cache_key *key, const char *data, size_t size)
{
    char path[PATH_SIZE], temporary[PATH_SIZE + 32];
    header h = {*key, size, hash(seeds[0], data, size)};
    if (!path_of(key, true, path)) return;
    FILE *file = open_temporary(path, temporary);
    if (!file) return;
    bool good = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(data, 1, size, file) == size;
    good = !fclose(file) && good;
    if (!good || rename(temporary, path)) remove(temporary);
}
