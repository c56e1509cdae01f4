/* Bounded lines of a file from outside. */
#include "cli/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

kf_status kf_lines_open(kf_lines *l, const char *path) {
    *l = (kf_lines){.path = path};
    l->buffer = malloc(KF_LINE_BYTES_MAX + 2);
    if (!l->buffer) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a line of %d bytes", path, KF_LINE_BYTES_MAX);
    if (!strcmp(path, "-")) {
        l->file = stdin;
        l->path = "standard input";
        return KF_OK;
    }
    l->file = fopen(path, "re");
    if (l->file) return KF_OK;
    int why = errno;
    kf_lines_close(l);
    return KF_FAIL(why == ENOENT ? KF_ERR_NOT_FOUND : KF_ERR_IO, "%s: %s", path, strerror(why));
}

void kf_lines_close(kf_lines *l) {
    if (l->file && l->file != stdin) fclose(l->file);
    free(l->buffer);
    l->file = NULL;
    l->buffer = NULL;
}

/* Reads up to the end of the line; *n counts every byte of it, kept or not. False at the end of the file. */
static bool read_line(kf_lines *l, size_t *n) {
    int c;
    *n = 0;
    while ((c = getc_unlocked(l->file)) != EOF && c != '\n') {
        if (*n <= KF_LINE_BYTES_MAX) l->buffer[*n] = (char)c;
        if (++*n > KF_LINE_BYTES_MAX) return true;
    }
    return c != EOF || *n > 0;
}

kf_status kf_lines_next(kf_lines *l, char **line, size_t *n_bytes) {
    size_t n, bad;
    do {
        if (!read_line(l, &n)) {
            if (ferror(l->file))
                return KF_FAIL(KF_ERR_IO, "%s, line %zu: %s", l->path, l->line_no + 1, strerror(errno));
            return KF_ERR_CLOSED;
        }
        l->line_no++;
        if (n > KF_LINE_BYTES_MAX)
            return KF_FAIL(KF_ERR_TOO_LARGE, "%s, line %zu: longer than %d bytes", l->path, l->line_no,
                           KF_LINE_BYTES_MAX);
        if (l->line_no > KF_LINES_MAX)
            return KF_FAIL(KF_ERR_TOO_LARGE, "%s: more than %d lines; split the file", l->path, KF_LINES_MAX);
        if (n && l->buffer[n - 1] == '\r') n--;
    } while (n == 0);
    if (memchr(l->buffer, 0, n) || !kf_utf8_valid(l->buffer, n, &bad))
        return KF_FAIL(KF_ERR_INVALID, "%s, line %zu: not UTF-8 text", l->path, l->line_no);
    l->buffer[n] = 0;
    *line = l->buffer;
    *n_bytes = n;
    return KF_OK;
}
