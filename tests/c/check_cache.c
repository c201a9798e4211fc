/* The cache of machine code on disk: what is damaged is never returned, whoever else writes. */
#define _DEFAULT_SOURCE /* setenv */
#define _DARWIN_C_SOURCE
#include "testing.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/gpu/cache.h"

enum { SIZE = 300, HEADER = 32, WRITERS = 4, WRITES = 200 };

static char root[] = "/tmp/check_cache.XXXXXX", folder[256], file[512];

static void use(const char *name)
{
    snprintf(folder, sizeof folder, "%s/%s", root, name);
    setenv("CAUSAL_CONV1D_CACHE", folder, 1);
}

/* What a writer stores, of a size and with bytes of its own. */
static size_t content(char *data, int writer)
{
    memset(data, 'a' + writer, SIZE);
    return (size_t)(SIZE - writer);
}

/* Whether `data` is all of what one writer stored. */
static bool is_whole(const char *data, size_t size)
{
    char expected[SIZE];
    for (int writer = 0; writer < WRITERS; writer++)
        if (size == content(expected, writer) && !memcmp(data, expected, size)) return true;
    return false;
}

static bool has(const cc1d_cache_key *key)
{
    size_t size = 0;
    char *data = cc1d_cache_read(key, &size);
    bool whole = data && is_whole(data, size);
    check(!data || whole, "damaged content was returned");
    free(data);
    return whole;
}

static void store(const cc1d_cache_key *key, int writer)
{
    char data[SIZE];
    cc1d_cache_write(key, data, content(data, writer));
}

/* The file changed in one byte, or cut off before it. */
static void damage(long at, bool cut)
{
    char bytes[HEADER + SIZE];
    FILE *f = fopen(file, "rb");
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f) fclose(f);
    if (n > (size_t)at) bytes[at] ^= 1;
    f = fopen(file, "wb");
    if (!f) abort();
    fwrite(bytes, 1, cut ? (size_t)at : n, f);
    fclose(f);
}

static void check_damage(const cc1d_cache_key *key)
{
    for (int cut = 0; cut < 2; cut++)
        for (long at = 0; at < HEADER + SIZE; at++) {
            store(key, 0);
            check(has(key), "byte %ld: what was stored is not there", at);
            damage(at, cut);
            check(!has(key), "byte %ld %s: was not noticed", at,
                  cut ? "and on cut off" : "changed");
            check(access(file, F_OK) != 0, "byte %ld: the damaged file is still there", at);
        }
}

/* Writers and readers at once, as processes. */
static void check_processes(const cc1d_cache_key *key)
{
    fflush(stdout);
    store(key, 0);
    for (int writer = 0; writer < WRITERS; writer++)
        if (fork() == 0) {
            for (int i = 0; i < WRITES; i++) {
                store(key, writer);
                if (!has(key)) _exit(1);
            }
            _exit(results.failed != 0);
        }
    for (int writer = 0; writer < WRITERS; writer++) {
        int status = 1;
        wait(&status);
        check(status == 0, "a process among others did not find what was stored");
    }
}

int main(void)
{
    const cc1d_cache_key key = cc1d_cache_key_of("text", "sm_90", 12),
                         others[] = {cc1d_cache_key_of("texts", "sm_90", 12),
                                     cc1d_cache_key_of("text", "sm_80", 12),
                                     cc1d_cache_key_of("text", "sm_90", 13),
                                     cc1d_cache_key_of("texts", "m_90", 12)};
    if (!mkdtemp(root)) abort();
    use("a/folder/that/is/made");
    check(!has(&key), "an empty cache has something");
    store(&key, 1);
    check(has(&key), "what was stored is not there");
    for (int i = 0; i < 4; i++) check(!has(&others[i]), "key %d is taken for another", i);
    snprintf(file, sizeof file, "%s/%016llx%016llx", folder, (unsigned long long)key.hash[0],
             (unsigned long long)key.hash[1]);
    check_damage(&key);
    check_processes(&key);

    setenv("CAUSAL_CONV1D_CACHE", "0", 1);
    store(&key, 1);
    check(!has(&key), "a cache that is switched off has something");
    setenv("CAUSAL_CONV1D_CACHE", "/dev/null/folder", 1);
    store(&key, 1);
    check(!has(&key), "a cache that cannot be made has something");

    char command[600];
    snprintf(command, sizeof command, "rm -r %s", root);
    check(system(command) == 0, "cleaning up");
    return report();
}
