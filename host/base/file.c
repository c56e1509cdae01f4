/* The readers of file.h. Run its test: ctest -R test_base_file. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

char *kf_path_join(const char *dir, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

kf_status kf_path_exists(const char *path, bool *out) {
    struct stat st;
    bool there = stat(path, &st) == 0;
    if (!there && errno != ENOENT) return KF_FAIL(KF_ERR_IO, "%s: %s", path, strerror(errno));
    *out = there;
    return KF_OK;
}

kf_status kf_file_open(const char *path, int *fd, uint64_t *bytes) {
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hold us up */
    if (f < 0) return KF_FAIL(errno == ENOENT ? KF_ERR_NOT_FOUND : KF_ERR_IO, "%s: %s", path, strerror(errno));
    struct stat st;
    kf_status s = KF_OK;
    if (fstat(f, &st) != 0)
        s = KF_FAIL(KF_ERR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        s = KF_FAIL(KF_ERR_IO, "%s: not a regular file", path);
    if (s != KF_OK) {
        close(f);
        return s;
    }
    *fd = f;
    *bytes = (uint64_t)st.st_size;
    return KF_OK;
}

kf_status kf_file_pread(int fd, const char *path, const char *what, void *dst, size_t n, uint64_t offset) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return KF_FAIL(KF_ERR_IO, "%s: %.120s: %s", path, what, strerror(errno));
        if (r == 0)
            return KF_FAIL(KF_ERR_CORRUPT,
                           "%s: %.120s: wanted %zu bytes at %" PRIu64 ", the file ends after %zu of them: it has "
                           "become shorter since it was opened",
                           path, what, n, offset, done);
        done += (size_t)r;
    }
    return KF_OK;
}

kf_status kf_file_read(const char *path, size_t bytes_max, char **bytes, size_t *n) {
    int fd = -1;
    uint64_t size = 0;
    KF_TRY(kf_file_open(path, &fd, &size));
    kf_status s = KF_OK;
    char *text = NULL;
    if (size > bytes_max)
        s = KF_FAIL(KF_ERR_TOO_LARGE, "%s: %" PRIu64 " bytes, more than the %zu that are read", path, size, bytes_max);
    else if (!(text = malloc((size_t)size + 1)))
        s = KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %" PRIu64 " bytes", path, size);
    KF_STEP(s, kf_file_pread(fd, path, "its text", text, (size_t)size, 0));
    close(fd);
    if (s != KF_OK) {
        free(text);
        return s;
    }
    text[size] = 0;
    *bytes = text;
    *n = (size_t)size;
    return KF_OK;
}

kf_status kf_json_parse(const char *text, size_t n, size_t flags, const char *path, json_t **out) {
    json_error_t e;
    json_t *root = json_loadb(text, n, flags, &e);
    if (!root && json_error_code(&e) == json_error_out_of_memory)
        return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for the JSON in its %zu bytes", path, n);
    if (!root)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: no valid JSON: line %d column %d: %.160s", path, e.line, e.column, e.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return KF_FAIL(KF_ERR_CORRUPT, "%s: the JSON at the top must be an object", path);
    }
    *out = root;
    return KF_OK;
}

kf_status kf_json_read(const char *path, size_t bytes_max, size_t flags, json_t **out, uint64_t *hash) {
    char *text;
    size_t n;
    KF_TRY(kf_file_read(path, bytes_max, &text, &n));
    kf_status s = kf_json_parse(text, n, flags, path, out);
    if (s == KF_OK && hash) *hash = kf_fnv64_words(KF_FNV64_START, text, n);
    free(text);
    return s;
}

kf_status kf_json_read_optional(const char *path, size_t bytes_max, size_t flags, json_t **out) {
    bool there;
    KF_TRY(kf_path_exists(path, &there));
    if (there) return kf_json_read(path, bytes_max, flags, out, NULL);
    *out = NULL;
    return KF_OK;
}

static bool is_listed(const char *const *list, const char *key) {
    while (*list && strcmp(*list, key))
        list++;
    return *list != NULL;
}

kf_status kf_json_only(const json_t *object, const char *path, const char *what, const char *const *known) {
    if (!json_is_object(object)) return KF_FAIL(KF_ERR_CORRUPT, "%s: %.60s must be an object", path, what);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (is_listed(known, key)) continue;
        char list[320] = "";
        for (size_t i = 0, n = 0; known[i] && n < sizeof list; i++)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", known[i]);
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %.60s has \"%.40s\", which nothing reads; there are %s", path, what, key,
                       list);
    }
    return KF_OK;
}
