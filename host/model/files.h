/* What every reader of a model's folder needs: bounded reads with errors that name the file, JSON, a content hash. */
#ifndef KF_MODEL_FILES_H
#define KF_MODEL_FILES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* "dir/name", the caller's to free; NULL: no memory. */
char *kf_model_path_join(const char *dir, const char *name);

/* Opens a regular file for reading. KF_ERR_NOT_FOUND; KF_ERR_IO. */
kf_status kf_model_file_open(const char *path, int *fd, uint64_t *bytes);

/* Exactly n bytes at offset. `what` names them in a message. KF_ERR_CORRUPT: the file ends before; KF_ERR_IO. */
kf_status kf_model_file_pread(int fd, const char *path, const char *what, void *dst, size_t n, uint64_t offset);

/* Strict JSON, an object at the top, no key twice; *out is the caller's to json_decref. KF_ERR_CORRUPT names path and
 * line. */
kf_status kf_model_json_parse(const char *text, size_t n, const char *path, json_t **out);

/* The same from a file of at most bytes_max; *hash, unless NULL, is kf_fnv1a over its bytes. KF_ERR_TOO_LARGE;
 * KF_ERR_NOT_FOUND; KF_ERR_IO; KF_ERR_CORRUPT. */
kf_status kf_model_json_read(const char *path, size_t bytes_max, json_t **out, uint64_t *hash);

/* FNV-1a over 64-bit words, the last one filled up with zeros and the length mixed in: an eighth of the multiplications
 * of the bytewise form. It tells contents apart; it is no defence against somebody who wants them equal. */
#define KF_FNV1A_START 14695981039346656037ull
uint64_t kf_fnv1a(uint64_t h, const void *data, size_t n);

/* "NAME@HASH" into out: the last part of dir's path and 12 hexadecimal digits. */
void kf_model_id(const char *dir, uint64_t hash, char *out, size_t cap);

#endif
