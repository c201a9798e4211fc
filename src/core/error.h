/* How a function says what went wrong. */
#ifndef CAUSAL_CONV1D_CORE_ERROR_H
#define CAUSAL_CONV1D_CORE_ERROR_H

#include "../../include/causal_conv1d.h"

/* Sets the message (error may be NULL) and returns the status. */
causal_conv1d_status cc1d_fail(causal_conv1d_error *error, causal_conv1d_status status,
                               const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#endif
