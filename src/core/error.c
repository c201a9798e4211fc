#include "error.h"

#include <stdarg.h>
#include <stdio.h>

causal_conv1d_status cc1d_fail(causal_conv1d_error *error, causal_conv1d_status status,
                               const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
    }
    return status;
}
