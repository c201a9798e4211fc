/* A lock that needs no initialisation call; C11's own are missing on macOS and Windows. */
#ifndef CAUSAL_CONV1D_CORE_LOCK_H
#define CAUSAL_CONV1D_CORE_LOCK_H

#ifdef _WIN32
#include <windows.h>
typedef SRWLOCK cc1d_lock;
#define CC1D_LOCK_INIT SRWLOCK_INIT
#define cc1d_acquire AcquireSRWLockExclusive
#define cc1d_leave ReleaseSRWLockExclusive
#else
#include <pthread.h>
typedef pthread_mutex_t cc1d_lock;
#define CC1D_LOCK_INIT PTHREAD_MUTEX_INITIALIZER
#define cc1d_acquire pthread_mutex_lock
#define cc1d_leave pthread_mutex_unlock
#endif

#endif
