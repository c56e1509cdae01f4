/* Reading whole files and the JSON in them. */
#include "text/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static kf_status read_open(FILE *f, const char *path, char **bytes, size_t *n) {
    struct stat st;
    if (fstat(fileno(f), &st) != 0) return KF_FAIL(KF_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return KF_FAIL(KF_ERR_IO, "%s: not a file", path);
    if (st.st_size > KF_TEXT_FILE_BYTES_MAX)
        return KF_FAIL(KF_ERR_TOO_LARGE, "%s: %lld bytes, the limit of a tokenizer's file is %d", path,
                       (long long)st.st_size, KF_TEXT_FILE_BYTES_MAX);
    size_t want = (size_t)st.st_size;
    char *p = malloc(want + 1);
    if (!p) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %zu bytes", path, want);
    size_t got = fread(p, 1, want, f);
    if (got != want) {
        free(p);
        return KF_FAIL(KF_ERR_IO, "%s: %zu bytes wanted, %zu read", path, want, got);
    }
    p[got] = 0;
    *bytes = p;
    *n = got;
    return KF_OK;
}

kf_status kf_file_read(const char *path, char **bytes, size_t *n) {
    FILE *f = fopen(path, "rbe");
    if (!f) return KF_FAIL(errno == ENOENT ? KF_ERR_NOT_FOUND : KF_ERR_IO, "%s: %s", path, strerror(errno));
    kf_status s = read_open(f, path, bytes, n);
    fclose(f);
    return s;
}

kf_status kf_json_read(const char *path, json_t **out) {
    char *bytes;
    size_t n;
    KF_TRY(kf_file_read(path, &bytes, &n));
    json_error_t error;
    json_t *root = json_loadb(bytes, n, JSON_ALLOW_NUL, &error);
    free(bytes);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for the JSON in its %zu bytes", path, n);
    if (!root) return KF_FAIL(KF_ERR_CORRUPT, "%s: line %d: %s", path, error.line, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return KF_FAIL(KF_ERR_CORRUPT, "%s: wanted a JSON object", path);
    }
    *out = root;
    return KF_OK;
}
