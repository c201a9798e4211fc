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

/* A library that this process has loaded, or NULL. */
static inline void *cc1d_loaded_library(const char *path)
{
#ifdef _WIN32
    return (void *)GetModuleHandleA(path);
#else
    return dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
#endif
}

/* A library, loaded if need be, or NULL. */
static inline void *cc1d_load_library(const char *path)
{
#ifdef _WIN32
    return (void *)LoadLibraryA(path);
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
