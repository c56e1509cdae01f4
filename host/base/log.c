/* The JSON-lines log of log.h. A line is at most LINE_BYTES; what is longer loses its last fields, never its form. */
#include "base/log.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_BYTES = 2048 };

static struct {
    int fd;
    kf_log_level least;
} sink = {.fd = -1};

void kf_log_to(int fd, kf_log_level least) {
    sink.fd = fd;
    sink.least = least;
}

/* Appends text as a JSON string. Bytes that are not valid in JSON are escaped; invalid UTF-8 is not checked here:
 * our own texts and names are UTF-8, and customers' never come here. Returns false where it does not fit. */
static bool put_string(char *line, size_t *n, const char *text) {
    size_t at = *n, cap = LINE_BYTES - 8;
    if (at >= cap) return false;
    line[at++] = '"';
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (at + 6 >= cap) return false;
        if (*p == '"' || *p == '\\') {
            line[at++] = '\\';
            line[at++] = (char)*p;
        } else if (*p < 0x20) {
            at += (size_t)snprintf(line + at, 7, "\\u%04x", *p);
        } else {
            line[at++] = (char)*p;
        }
    }
    line[at++] = '"';
    *n = at;
    return true;
}

static bool put_field(char *line, size_t *n, const kf_log_field *f) {
    size_t at = *n;
    line[at++] = ',';
    if (!put_string(line, &at, f->key) || at + 40 >= LINE_BYTES - 8) return false;
    line[at++] = ':';
    switch (f->kind) {
    case KF_LOG_STR:
        if (!put_string(line, &at, f->s ? f->s : "")) return false;
        break;
    case KF_LOG_INT: at += (size_t)snprintf(line + at, 32, "%lld", (long long)f->i); break;
    case KF_LOG_F64: at += (size_t)snprintf(line + at, 32, isfinite(f->f) ? "%.6g" : "null", f->f); break;
    case KF_LOG_BOOL: at += (size_t)snprintf(line + at, 32, "%s", f->i ? "true" : "false"); break;
    }
    *n = at;
    return true;
}

void kf_log_write(kf_log_level level, const char *event, const kf_log_field *fields) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (sink.fd < 0 || level < sink.least) return;
    char line[LINE_BYTES], ts[25];
    kf_clock_rfc3339(kf_clock_wall_ns(), ts);
    size_t n = (size_t)snprintf(line, sizeof line, "{\"ts\":\"%s\",\"level\":\"%s\",\"event\":", ts, names[level]);
    if (!put_string(line, &n, event)) return;
    for (; fields->key; fields++)
        if (!put_field(line, &n, fields)) break;
    line[n++] = '}';
    line[n++] = '\n';
    if (write(sink.fd, line, n) < 0) return; /* a full disk must not stop the worker */
}
