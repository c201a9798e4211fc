/* The cache of machine code on disk: what is damaged is never returned, whoever else writes. */
#define _DEFAULT_SOURCE /* setenv */
#define _DARWIN_C_SOURCE
#include "testing.h"

#include <sys/resource.h>
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

/* Sets the file that a key has in a folder. */
static void name_entry(const cc1d_cache_key *key, const char *in)
{
    snprintf(file, sizeof file, "%s/%016llx%016llx", in, (unsigned long long)key->hash[0],
             (unsigned long long)key->hash[1]);
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

static int mode_of(const char *path)
{
    struct stat found;
    return stat(path, &found) ? -1 : (int)(found.st_mode & 0777);
}

/* What another user may have written is neither used nor removed, and never waited for. */
static void check_strangers(const cc1d_cache_key *key)
{
    char elsewhere[600];
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", root);
    const mode_t mask = umask(0);
    use("open/to/all");
    name_entry(key, folder);
    store(key, 1);
    umask(mask);
    check(mode_of(file) == 0600 && mode_of(folder) == 0700, "modes %o, %o", mode_of(file),
          mode_of(folder));
    const mode_t writable[] = {0620, 0602, 0666};
    for (int i = 0; i < 3; i++) {
        check(!chmod(file, writable[i]) && !has(key), "mode %o was trusted", writable[i]);
        check(mode_of(file) == (int)writable[i], "a file of mode %o was removed", writable[i]);
    }
    check(!chmod(file, 0600) && has(key), "what was stored is not there");
    if (geteuid() == 0) { /* only root can give a file away */
        check(!chown(file, 1, 1) && !has(key), "a file of another user was trusted");
        check(!chown(file, 0, 0) && has(key), "what was stored is not there");
    }
    check(!rename(file, elsewhere) && !symlink(elsewhere, file) && !has(key),
          "a symbolic link was followed");
    store(key, 2);
    struct stat found;
    check(!lstat(file, &found) && S_ISREG(found.st_mode) && has(key), "a link was not replaced");
    check(!remove(file) && !mkfifo(file, 0600) && !has(key), "a FIFO was read");
    store(key, 1);
    check(has(key), "a FIFO was not replaced");
}

/* A good entry stays, though there is no memory to read it into. */
static void check_no_memory(const cc1d_cache_key *key)
{
#ifndef __SANITIZE_ADDRESS__ /* its malloc ends the program */
    const size_t size = (size_t)256 << 20;
    char *data = calloc(size, 1);
    if (!data) abort();
    cc1d_cache_write(key, data, size);
    free(data);
    const struct rlimit little = {(rlim_t)64 << 20, RLIM_INFINITY};
    struct rlimit before;
    check(!getrlimit(RLIMIT_AS, &before) && !setrlimit(RLIMIT_AS, &little), "setting a limit");
    size_t got;
    void *volatile probe = malloc(size); /* qemu-user takes such a limit, and does not hold to it */
    data = cc1d_cache_read(key, &got);
    check(!setrlimit(RLIMIT_AS, &before), "setting the limit back");
    check((probe || !data) && !access(file, F_OK), "an entry was removed for want of memory");
    free(probe);
    free(data);
    store(key, 1);
#else
    (void)key;
#endif
}

/* XDG_CACHE_HOME counts if it is an absolute path. */
static void check_default_folder(const cc1d_cache_key *key)
{
    char home[64], cache[256];
    snprintf(home, sizeof home, "%s/home", root);
    unsetenv("CAUSAL_CONV1D_CACHE");
    setenv("HOME", home, 1);
    const char *const caches[] = {"relative", "", home};
    const char *const folders[] = {"/.cache", "/.cache", ""};
    for (int i = 0; i < 3; i++) {
        setenv("XDG_CACHE_HOME", caches[i], 1);
        store(key, 1);
        snprintf(cache, sizeof cache, "%s%s/causal_conv1d_mps", home, folders[i]);
        name_entry(key, cache);
        check(has(key) && !remove(file), "XDG_CACHE_HOME=%s", caches[i]);
    }
    check(access("relative", F_OK), "a relative folder was made");
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
    name_entry(&key, folder);
    check_damage(&key);
    check_processes(&key);
    check_strangers(&key);
    check_no_memory(&key);
    check_default_folder(&key);

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
