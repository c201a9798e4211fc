/* Functions of libraries that are looked up at run time. */
#ifndef CAUSAL_CONV1D_CORE_LIBRARY_H
#define CAUSAL_CONV1D_CORE_LIBRARY_H

#include <stdbool.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#ifdef _WIN32
/* A path of UTF-8, as Python writes it, in the characters of Windows, whose loader wants
 * backslashes; false if it is too long. */
typedef struct cc1d_wide {
    wchar_t text[1024];
} cc1d_wide;

static inline bool cc1d_widen(const char *path, cc1d_wide *wide)
{
    const int n = MultiByteToWideChar(CP_UTF8, 0, path, -1, wide->text, 1024);
    for (int i = 0; i < n; i++)
        if (wide->text[i] == L'/') wide->text[i] = L'\\';
    return n > 0;
}
#endif

/* A library that this process has loaded, or NULL. */
static inline void *cc1d_loaded_library(const char *path)
{
#ifdef _WIN32
    cc1d_wide wide;
    return cc1d_widen(path, &wide) ? (void *)GetModuleHandleW(wide.text) : NULL;
#else
    return dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
#endif
}

/* A library, loaded if need be, or NULL.  On Windows a bare name is looked for where the program
 * lies, in the system's folder and in those that the process has added, and not in the current
 * folder or PATH, where anyone may put one; what a library with a path needs, beside it too. */
static inline void *cc1d_load_library(const char *path)
{
#ifdef _WIN32
    cc1d_wide wide;
    const DWORD beside = strpbrk(path, "/\\") ? LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR : 0;
    if (!cc1d_widen(path, &wide)) return NULL;
    return (void *)LoadLibraryExW(wide.text, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | beside);
#else
    return dlopen(path, RTLD_LAZY | RTLD_LOCAL);
#endif
}

/* Sets the function pointer that `function` points to; false and NULL if the library lacks it. */
static inline bool cc1d_resolve(void *library, const char *name, void *function)
{
#ifdef _WIN32
    FARPROC symbol = library ? GetProcAddress((HMODULE)library, name) : NULL;
#else
    void *symbol = library ? dlsym(library, name) : NULL;
#endif
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

#endif
