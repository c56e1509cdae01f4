/* Bounded reads, JSON and a content hash for the readers of a model's folder. */
#include "model/files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *kf_model_path_join(const char *dir, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

kf_status kf_model_file_open(const char *path, int *fd, uint64_t *bytes) {
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

kf_status kf_model_file_pread(int fd, const char *path, const char *what, void *dst, size_t n, uint64_t offset) {
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

kf_status kf_model_json_parse(const char *text, size_t n, const char *path, json_t **out) {
    json_error_t e;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: no valid JSON: line %d column %d: %.160s", path, e.line, e.column, e.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return KF_FAIL(KF_ERR_CORRUPT, "%s: the JSON at the top must be an object", path);
    }
    *out = root;
    return KF_OK;
}

kf_status kf_model_json_read(const char *path, size_t bytes_max, json_t **out, uint64_t *hash) {
    int fd = -1;
    uint64_t bytes = 0;
    KF_TRY(kf_model_file_open(path, &fd, &bytes));
    kf_status s = KF_OK;
    char *text = NULL;
    if (bytes > bytes_max)
        s = KF_FAIL(KF_ERR_TOO_LARGE, "%s: %" PRIu64 " bytes, more than the %zu that are read", path, bytes, bytes_max);
    else if (!(text = malloc((size_t)bytes + 1)))
        s = KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for %" PRIu64 " bytes", path, bytes);
    KF_STEP(s, kf_model_file_pread(fd, path, "its text", text, (size_t)bytes, 0));
    KF_STEP(s, kf_model_json_parse(text, (size_t)bytes, path, out));
    if (s == KF_OK && hash) *hash = kf_fnv1a(KF_FNV1A_START, text, (size_t)bytes);
    free(text);
    close(fd);
    return s;
}

uint64_t kf_fnv1a(uint64_t h, const void *data, size_t n) {
    const unsigned char *p = data;
    size_t left = n;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), p += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * 1099511628211ull;
        h ^= h >> 32; /* the multiplication moves upwards only */
    }
    uint64_t last = 0;
    if (left) memcpy(&last, p, left);
    h = (h ^ last) * 1099511628211ull;
    return (h ^ n) * 1099511628211ull;
}

void kf_model_id(const char *dir, uint64_t hash, char *out, size_t cap) {
    size_t n = strlen(dir);
    while (n && dir[n - 1] == '/')
        n--;
    size_t start = n;
    while (start && dir[start - 1] != '/')
        start--;
    snprintf(out, cap, "%.*s@%012" PRIx64, (int)(n - start < 48 ? n - start : 48), dir + start, hash >> 16);
}
