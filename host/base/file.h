/* Files that others wrote, read with a bound and with errors that name them; and the JSON in them.
 *
 *     json_t *root;                                                   // a file that need not be there
 *     KF_TRY(kf_json_read_optional(path, KF_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root));
 *     if (root) …
 *     json_decref(root);
 *
 * Only ENOENT means that a file is not there: one that may not be read, a folder or a fifo in its place are failures.
 * Nothing is mapped, so a file that shrinks while it is read is an error with a text and not a SIGBUS.
 *
 * Statuses of all that open: KF_ERR_NOT_FOUND: no such file; KF_ERR_IO: it cannot be read, or is no regular file;
 * KF_ERR_TOO_LARGE; KF_ERR_CORRUPT: it became shorter while it was read, or is no JSON object (the text has line and
 * column); KF_ERR_NO_MEMORY. Any thread.
 */
#ifndef KF_BASE_FILE_H
#define KF_BASE_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* What is read of a small file of settings, at most. */
enum { KF_JSON_BYTES_MAX = 1 << 20 };

/* "dir/name", the caller's to free; NULL: no memory. */
char *kf_path_join(const char *dir, const char *name);

/* Whether there is anything of that name. KF_ERR_IO: that cannot be said (a folder above it may not be read). */
kf_status kf_path_exists(const char *path, bool *out);

/* Opens a regular file for reading; the descriptor is the caller's to close. */
kf_status kf_file_open(const char *path, int *fd, uint64_t *bytes);

/* Exactly n bytes at offset. `what` names them in a message. KF_ERR_CORRUPT: the file ends before; KF_ERR_IO. */
kf_status kf_file_pread(int fd, const char *path, const char *what, void *dst, size_t n, uint64_t offset);

/* The whole file, a NUL behind it; the caller frees. */
kf_status kf_file_read(const char *path, size_t bytes_max, char **bytes, size_t *n);

/* An object of JSON; *out is the caller's to json_decref. flags are jansson's: JSON_REJECT_DUPLICATES, JSON_ALLOW_NUL.
 * path is for the message. KF_ERR_CORRUPT; KF_ERR_NO_MEMORY. */
kf_status kf_json_parse(const char *text, size_t n, size_t flags, const char *path, json_t **out);

/* The same from a file; *hash, unless hash is NULL, is kf_fnv64_words over its bytes. */
kf_status kf_json_read(const char *path, size_t bytes_max, size_t flags, json_t **out, uint64_t *hash);

/* The same; KF_OK and *out NULL where there is no such file. */
kf_status kf_json_read_optional(const char *path, size_t bytes_max, size_t flags, json_t **out);

/* Refuses a key that nobody reads, which is a slip of the pen. what: the object's name in the file, for the message;
 * known ends with NULL. KF_ERR_CORRUPT: the text has the key and the known ones; or object is none. */
kf_status kf_json_only(const json_t *object, const char *path, const char *what, const char *const *known);

#endif
