/* A text file line by line, whatever is in it: bounded lines, numbers for messages, valid UTF-8 without NUL.
 *
 *     kf_lines in;
 *     KF_TRY(kf_lines_open(&in, path));
 *     while ((s = kf_lines_next(&in, &line, &n_bytes)) == KF_OK) …     // line number in.line_no
 *     kf_lines_close(&in);                                            // s is KF_ERR_CLOSED at the end of the file
 */
#ifndef KF_CLI_LINES_H
#define KF_CLI_LINES_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

enum { KF_LINE_BYTES_MAX = 64 << 10, KF_LINES_MAX = 1000000 };

typedef struct kf_lines {
    FILE *file;
    const char *path; /* the caller's */
    size_t line_no;
    char *buffer;
} kf_lines;

/* "-" is standard input. KF_ERR_NOT_FOUND; KF_ERR_IO; KF_ERR_NO_MEMORY. */
kf_status kf_lines_open(kf_lines *l, const char *path);
void kf_lines_close(kf_lines *l);

/* The next line that is not empty, without its end (\n or \r\n) and NUL-terminated; valid until the next call.
 * KF_ERR_CLOSED: there is none (no error record is set); KF_ERR_TOO_LARGE; KF_ERR_INVALID: NUL or not UTF-8; KF_ERR_IO.
 */
kf_status kf_lines_next(kf_lines *l, char **line, size_t *n_bytes);

#endif
