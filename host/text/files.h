/* Reading a tokenizer's files whole, with a limit. Internal to host/text. */
#ifndef KF_TEXT_FILES_H
#define KF_TEXT_FILES_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

enum { KF_TEXT_FILE_BYTES_MAX = 128 << 20 };

/* The file's bytes with a NUL behind them; the caller frees. KF_ERR_NOT_FOUND; KF_ERR_IO; KF_ERR_TOO_LARGE;
 * KF_ERR_NO_MEMORY. */
kf_status kf_file_read(const char *path, char **bytes, size_t *n);

/* The file's JSON object; the caller drops the reference. As above; KF_ERR_CORRUPT: no JSON, or no object. */
kf_status kf_json_read(const char *path, json_t **out);

#endif
