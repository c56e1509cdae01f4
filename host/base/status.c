/* The per-thread error record of status.h: fixed buffers, so that reporting a lack of memory needs none. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct {
    char text[512];
    char where[256];
} error;

static const char *const names[KF_N_STATUS] = {
    [KF_OK] = "OK",
    [KF_ERR_INVALID] = "INVALID",
    [KF_ERR_TOO_LARGE] = "TOO_LARGE",
    [KF_ERR_NOT_FOUND] = "NOT_FOUND",
    [KF_ERR_UNSUPPORTED] = "UNSUPPORTED",
    [KF_ERR_CORRUPT] = "CORRUPT",
    [KF_ERR_IO] = "IO",
    [KF_ERR_NO_MEMORY] = "NO_MEMORY",
    [KF_ERR_DEVICE] = "DEVICE",
    [KF_ERR_OVERLOADED] = "OVERLOADED",
    [KF_ERR_CLOSED] = "CLOSED",
    [KF_ERR_DEADLINE] = "DEADLINE",
    [KF_ERR_CANCELLED] = "CANCELLED",
    [KF_ERR_BUG] = "BUG",
};

const char *kf_status_name(kf_status s) {
    return (unsigned)s < KF_N_STATUS ? names[s] : "UNKNOWN";
}

const char *kf_error_text(void) {
    return error.text;
}

const char *kf_error_where(void) {
    return error.where;
}

void kf_error_clear(void) {
    error.text[0] = error.where[0] = 0;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

kf_status kf_error_set(kf_status s, const char *file, int line, const char *fmt, ...) {
    char text[sizeof error.text]; /* the arguments may point into the present record */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(error.text, text, sizeof text);
    snprintf(error.where, sizeof error.where, "%s:%d", base_name(file), line);
    return s;
}

kf_status kf_error_pass(kf_status s, const char *file, int line) {
    size_t n = strlen(error.where);
    snprintf(error.where + n, sizeof error.where - n, "%s%s:%d", n ? " < " : "", base_name(file), line);
    return s;
}
